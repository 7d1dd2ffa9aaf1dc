"""The codec waist and the registry: named forms of rows of numbers between processes.

A codec turns each row by itself into the same number of bytes, so that frames can be cut and joined
by rows without decoding, and a row's bytes never depend on its neighbours. A new codec is one
object in one new file of this folder, named in the tuple `CODECS` there; the registry finds it.
Knows nothing of the wire, or of what the rows mean.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.tensor_frame import TensorFrame
from manyhands.errors import ProtocolError, UserError

# Shapes: T rows (tokens), D width.


class Codec(Protocol):
    """One form of rows. Its object has no state."""

    @property
    def name(self) -> str:
        """What `TensorFrame.codec` says."""

    @property
    def takes(self) -> Literal["numbers", "bits"]:
        """What rows it is for: any numbers, or only 0 and 1."""

    @property
    def error(self) -> float:
        """The most RMS(decoded - rows) / RMS(rows) may be, for ordinary activations.

        Ordinary: each row's RMS is in [0.01, 1000] and none of its numbers is beyond ±60000.
        """

    def row_bytes(self, width: int) -> int:
        """Bytes of one encoded row of `width` numbers; at least 1 for a width of at least 1."""

    def encode(self, rows: NDArray[Any]) -> bytes:
        """The bytes of `rows` [T, D], C-contiguous float32 or bool: T times row_bytes(D)."""

    def decode(
        self, payload: bytes | bytearray | memoryview, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """A new, writable array [T, D] of a payload whose length has been checked."""


def _find() -> Mapping[str, Codec]:
    package = importlib.import_module(__name__.rpartition(".")[0])
    found: dict[str, Codec] = {}
    for file in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if file.name == __name__:
            continue
        for codec in getattr(importlib.import_module(file.name), "CODECS", ()):
            if codec.name in found:
                raise ValueError(
                    f"two codecs are named {codec.name!r}; rename the one in {file.name}"
                )
            found[codec.name] = codec
    return MappingProxyType(dict(sorted(found.items())))


_CODECS = _find()


def names() -> tuple[str, ...]:
    """Every codec there is, sorted."""
    return tuple(_CODECS)


def named(name: str) -> Codec:
    """The codec of this name. Raises ProtocolError that lists those there are."""
    codec = _CODECS.get(name)
    if codec is None:
        raise ProtocolError(f"there is no codec {name!r} here, only {', '.join(_CODECS)}")
    return codec


def encode(name: str, array: NDArray[Any]) -> TensorFrame:
    """`array` [T, D] of any real or bool dtype as a frame.

    Raises ProtocolError for an unknown codec, UserError when the array is not two-dimensional.
    """
    codec = named(name)
    if array.ndim != 2:
        raise UserError(f"a frame holds rows [T, D]; this array is {list(array.shape)}, reshape it")
    rows = np.ascontiguousarray(array, None if array.dtype == np.bool_ else np.float32)
    return TensorFrame(name, (rows.shape[0], rows.shape[1]), codec.encode(rows))


def decode(frame: TensorFrame) -> NDArray[np.float32]:
    """The rows [T, D] of a frame, in a new array.

    Raises ProtocolError for an unknown codec, or a payload that is not as long as its shape says.
    """
    codec = named(frame.codec)
    rows, width = frame.shape
    if rows < 0 or width < 0:
        raise ProtocolError(f"a {frame.codec} frame has the shape {list(frame.shape)}")
    due = rows * codec.row_bytes(width)
    if len(frame.payload) != due:
        raise ProtocolError(
            f"a {frame.codec} frame of shape {list(frame.shape)} has {len(frame.payload)} bytes; "
            f"it must have {due}"
        )
    return codec.decode(frame.payload, frame.shape)
