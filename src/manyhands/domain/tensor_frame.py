"""The two forms of a tensor at rest: as stored in a checkpoint, and as it leaves a process."""

from __future__ import annotations

from dataclasses import dataclass

DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Element sizes by the dtype names safetensors uses."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a checkpoint holds it: dtype name, shape, read-only row-major bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


@dataclass(frozen=True, slots=True)
class TensorFrame:
    """The only form in which a tensor leaves a process: rows encoded by a named codec.

    `shape` is [rows, width] of the decoded tensor. A codec encodes each row by itself into the same
    number of bytes, so rows can be cut out of a frame without decoding it (the journal does).
    """

    codec: str
    shape: tuple[int, int]
    payload: bytes | bytearray | memoryview

    @property
    def row_bytes(self) -> int:
        """Bytes of one encoded row."""
        return len(self.payload) // self.shape[0] if self.shape[0] else 0
