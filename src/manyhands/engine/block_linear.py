"""Linear maps over integer matrices: rows [N, in] float32 -> [N, out], the same bits everywhere.

With numba the compiled kernels serve, on panels as files hold them; without, the numpy reference,
slower.
Both give the same bits, so no peer need know which. Knows nothing of torch or of where codes are
from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.panels import PANEL, Panels, rows_at, taken_apart
from manyhands.codec.weight_blocks import BLOCK, dequantise, padded
from manyhands.engine import block_reference

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

Float32 = NDArray[np.float32]

LINE = 64
"""Bytes of a cache line: codes are loaded so many at a time, scales half as many."""

CACHED_BYTES = 256 * 1024
"""So much of the rows is worked on at one time: it stays in the second-level cache."""

ROW_BYTES = BLOCK + 8
"""What a kernel makes of a block of a row: codes, a scale, a start."""

UNIT_BYTES = 128 * 1024
"""About how much of the matrix one unit reads at one row: some microseconds."""


class Map(Protocol):
    """A linear map over integers."""

    @property
    def bytes_held(self) -> int:
        """Bytes it takes in memory."""

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""


class Product(Map, Protocol):
    """One integer matrix, ready to multiply."""

    @property
    def outs(self) -> int:
        """Rows of the matrix: numbers of a result."""

    def rows_at(self, places: NDArray[np.int64]) -> Float32:
        """Rows of the matrix itself [len(places), in]: what a table of tokens is asked for."""


class ReferenceProduct:
    """The matrix row by row, multiplied by numpy."""

    def __init__(self, panels: Panels) -> None:
        self._weights = taken_apart(panels)
        self.outs = panels.outs
        self.bytes_held = self._weights.codes.nbytes + self._weights.scales.nbytes

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""
        return block_reference.multiply(self._weights, rows)

    def rows_at(self, places: NDArray[np.int64]) -> Float32:
        """Rows of the matrix itself."""
        held = self._weights
        return dequantise(replace(held, codes=held.codes[places], scales=held.scales[places]))


class CompiledProduct:
    """The matrix as it lies in its file, its panels shared among the threads of a crew."""

    def __init__(self, panels: Panels, crew: Crew) -> None:
        self._crew, self._width = crew, panels.width
        self.outs = panels.outs
        self._held_as = replace(
            panels, codes=_aligned(panels.codes, LINE), scales=_aligned(panels.scales, LINE // 2)
        )
        codes, scales = self._held_as.codes, self._held_as.scales
        self._blocks = padded(panels.width) // BLOCK
        self._panels = codes.shape[0]
        self.bytes_held = codes.nbytes + scales.nbytes
        panel_bytes = self.bytes_held // self._panels
        self._multiply = crew.kernels.multiply
        self._held = (
            crew.state,
            crew.threads,
            panels.bits,
            codes.ctypes.data,
            scales.ctypes.data,
            self._panels,
            max(16, CACHED_BYTES // (self._blocks * BLOCK) // 4 * 4),
            2 * max(1, UNIT_BYTES // (2 * panel_bytes)),
        )

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""
        given, count = np.ascontiguousarray(rows), rows.shape[0]
        out = np.empty((count, self._panels * PANEL), np.float32)
        self.write(given.ctypes.data, count, out.ctypes.data)
        return out if self.outs == out.shape[1] else out[:, : self.outs].copy()

    @property
    def is_whole(self) -> bool:
        """True where the panels have no outputs but the matrix's."""
        return bool(self.outs == self._panels * PANEL)

    def write(self, rows: int, count: int, out: int) -> None:
        """The same of contiguous rows, by address; `out` has whole panels."""
        room = self._crew.room(count * self._blocks * ROW_BYTES)
        self._crew.end(self._multiply(*self._held, rows, count, self._width, out, room))

    def __deepcopy__(self, _memo: object) -> CompiledProduct:
        # it never changes, and knows its memory by address: a copied engine shares it
        return self

    def rows_at(self, places: NDArray[np.int64]) -> Float32:
        """Rows of the matrix itself."""
        return dequantise(rows_at(self._held_as, places))


class ThinProduct:
    """A matrix of low rank: the right one, then the left one, never multiplied out."""

    def __init__(self, left: Product, right: Product) -> None:
        self._left, self._right = left, right
        self.bytes_held = left.bytes_held + right.bytes_held

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""
        return self._left(self._right(rows))


def _aligned(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array, or a copy of it, at a multiple of `size`, as vectors are loaded."""
    if array.ctypes.data % size == 0 and array.flags.c_contiguous:
        return array
    memory = np.empty(array.nbytes + size, np.uint8)
    start = -memory.ctypes.data % size
    held = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    held[...] = array
    return held
