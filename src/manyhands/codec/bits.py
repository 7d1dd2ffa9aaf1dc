"""Rows of 0 and 1, eight to a byte: masks of allowed tokens over a vocabulary.

Number i of a row is bit i % 8 (the lowest is bit 0) of its byte i // 8; a row ends with a whole
byte, filled with zeros. Knows nothing of vocabularies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bits:
    """One bit a number; everything that is not 0 counts as 1."""

    name: str = "bits"
    takes: Literal["numbers", "bits"] = "bits"
    error: float = 0.0

    def row_bytes(self, width: int) -> int:
        """An eighth of the width, rounded up."""
        return (width + 7) // 8

    def encode(self, rows: NDArray[Any]) -> bytes:
        """See Codec."""
        return np.packbits(rows != 0, axis=1, bitorder="little").tobytes()

    def decode(
        self, payload: bytes | bytearray | memoryview, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """See Codec."""
        packed = np.frombuffer(payload, np.uint8).reshape(shape[0], self.row_bytes(shape[1]))
        bits = np.unpackbits(packed, axis=1, count=shape[1], bitorder="little")
        return bits.astype(np.float32)


CODECS = (Bits(),)
