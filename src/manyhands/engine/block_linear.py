"""Linear maps over integer matrices: rows [N, in] float32 -> [N, out], the same bits everywhere.

With numba the compiled kernels serve, laid out for them once; without, the numpy reference, slower.
Both give the same bits, so no peer need know which. Knows nothing of torch or of where codes are
from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.weight_blocks import BLOCK, WeightBlocks, dequantise, padded
from manyhands.engine import block_reference

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

Float32 = NDArray[np.float32]

PANEL = 16
"""Outputs beside each other in the kernels' layout; `block_tile` has the same."""

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
    """The matrix as it is stored, multiplied by numpy."""

    def __init__(self, weights: WeightBlocks) -> None:
        self._weights = weights
        self.outs = weights.codes.shape[0]
        self.bytes_held = weights.codes.nbytes + weights.scales.nbytes

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""
        return block_reference.multiply(self._weights, rows)

    def rows_at(self, places: NDArray[np.int64]) -> Float32:
        """Rows of the matrix itself."""
        held = self._weights
        return dequantise(
            WeightBlocks(held.bits, held.width, held.codes[places], held.scales[places])
        )


class CompiledProduct:
    """The matrix in the kernels' layout, its panels shared among the threads of a crew."""

    def __init__(self, weights: WeightBlocks, crew: Crew) -> None:
        self._crew, self._bits, self._width = crew, weights.bits, weights.width
        self.outs = weights.codes.shape[0]
        self._codes, self._scales = laid_out(weights)
        self._blocks = padded(weights.width) // BLOCK
        self._panels = -(-self.outs // PANEL)
        self.bytes_held = self._codes.nbytes + self._scales.nbytes
        panel_bytes = self.bytes_held // self._panels
        self._multiply = crew.kernels.multiply
        self._held = (
            crew.state,
            crew.threads,
            self._bits,
            self._codes.ctypes.data,
            self._scales.ctypes.data,
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
        panel, lane = places // PANEL, places % PANEL
        held = self._codes.reshape(self._panels, self._blocks, -1, PANEL, 4)[panel, :, :, lane]
        if self._bits == 4:
            held = np.concatenate([held & np.uint8(15), held >> np.uint8(4)], axis=2)
        codes = (
            (held - np.uint8(128 if self._bits == 8 else 8)).view(np.int8).reshape(places.size, -1)
        )
        scales = self._scales.reshape(self._panels, self._blocks, PANEL)[panel, :, lane]
        return dequantise(WeightBlocks(self._bits, self._width, codes, scales))


class ThinProduct:
    """A matrix of low rank: the right one, then the left one, never multiplied out."""

    def __init__(self, left: Product, right: Product) -> None:
        self._left, self._right = left, right
        self.bytes_held = left.bytes_held + right.bytes_held

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""
        return self._left(self._right(rows))


def laid_out(weights: WeightBlocks) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Codes and scales as the kernels read them: panels of 16 outputs, block after block.

    Of a block, 8 groups of 4 numbers, of each group all 16 outputs, as code + 128. int4: code + 8,
    group g in the low half of a byte and group g + 4 in the high one. Missing outputs are zero.
    """
    outs, width = weights.codes.shape
    panels, blocks = -(-outs // PANEL), width // BLOCK
    shift = np.uint8(128 if weights.bits == 8 else 8)
    codes = np.full((panels * PANEL, width), shift, np.uint8)
    codes[:outs] = weights.codes.view(np.uint8) + shift
    grouped = codes.reshape(panels, PANEL, blocks, 8, 4).transpose(0, 2, 3, 1, 4)
    scales = np.zeros((panels * PANEL, blocks), np.uint16)
    scales[:outs] = weights.scales
    turned = scales.reshape(panels, PANEL, blocks).transpose(0, 2, 1)
    size = panels * PANEL * width * weights.bits // 8
    held = _aligned(size).reshape(panels, blocks, -1, PANEL, 4)
    if weights.bits == 8:
        held[...] = grouped
    else:
        np.bitwise_or(grouped[:, :, :4], grouped[:, :, 4:] << np.uint8(4), out=held)
    by = _aligned(2 * panels * PANEL * blocks).view(np.uint16).reshape(panels, blocks, PANEL)
    by[...] = turned
    return held.reshape(-1), by.reshape(-1)


def _aligned(size: int) -> NDArray[np.uint8]:
    """Memory that begins at a multiple of 64, as vectors are loaded."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]
