"""Weight matrices as small integers: blocks of 32 of a row share a scale, a bfloat16.

int8: a number in [-127, 127] times its block's scale. int4: one in [-8, 7], two to a byte. The same
form for the rows that a matrix is multiplied with, where the scale stays float32. Knows nothing of
files, kernels or what a matrix is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manyhands.errors import UserError

Bits = Literal[4, 8]

BLOCK = 32
"""Numbers of a row that share a scale."""

MOST = {8: 127, 4: 7}
"""The largest positive code. int4 also has -8, which the block's largest number becomes."""


@dataclass(frozen=True, slots=True)
class WeightBlocks:
    """A matrix [out, in]: codes int8 [out, padded], scales as bits of bfloat16 [out, padded / 32].

    `padded` is `width` (in) rounded up to whole blocks; what is behind is 0.
    """

    bits: Bits
    width: int
    codes: NDArray[np.int8]
    scales: NDArray[np.uint16]


def padded(width: int) -> int:
    """`width` rounded up to whole blocks."""
    return -(-width // BLOCK) * BLOCK


def quantise(matrix: NDArray[np.float32], bits: Bits) -> WeightBlocks:
    """The nearest codes of a finite matrix [out, in]. Raises UserError for a NaN or infinity."""
    rows, width = matrix.shape
    blocks = np.zeros((rows, padded(width) // BLOCK, BLOCK), np.float32)
    blocks.reshape(rows, -1)[:, :width] = matrix
    if not np.isfinite(blocks).all():
        raise UserError("the matrix holds NaN or infinity, which no block of integers can hold")
    if bits == 8:
        scales = _bfloat16_above(np.abs(blocks).max(-1) / np.float32(MOST[8]))
        codes = _codes(blocks, scales, -127, 127)
    else:
        scales = _int4_scales(blocks)
        codes = _codes(blocks, scales, -8, 7)
    return WeightBlocks(bits, width, codes.reshape(rows, -1), scales)


def dequantise(blocks: WeightBlocks) -> NDArray[np.float32]:
    """The matrix [out, in] that the codes stand for."""
    rows = blocks.codes.shape[0]
    wide = blocks.codes.reshape(rows, -1, BLOCK) * widened(blocks.scales)[..., None]
    return np.ascontiguousarray(wide.reshape(rows, -1)[:, : blocks.width], np.float32)


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Bits of bfloat16 as float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _codes(
    blocks: NDArray[np.float32], scales: NDArray[np.uint16], least: int, most: int
) -> NDArray[np.int8]:
    wide = widened(scales)[..., None]
    ratios = np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide != 0)
    return np.clip(np.rint(ratios), least, most).astype(np.int8)


def _bfloat16_above(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The least bfloat16 that is not below each number, so that no code is beyond the largest."""
    bits = numbers.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)


def nearest_bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the bfloat16 nearest to each number, ties to the even one."""
    bits = numbers.astype(np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(numbers), np.uint16(0x7FC0), rounded)  # else one may carry over to 0


_INT4_TRIES = tuple(np.float32(divisor) for divisor in (-8.0, -7.5, -7.0, -6.5, 7.5, 7.0, 8.5))
"""What a block's extreme number is divided by: the scale that leaves the least squared error wins.
A negative one makes the extreme number the code -8."""


def _int4_scales(blocks: NDArray[np.float32]) -> NDArray[np.uint16]:
    places = np.abs(blocks).argmax(-1)[..., None]
    extremes = np.take_along_axis(blocks, places, -1)[..., 0]
    best = np.zeros(extremes.shape, np.uint16)
    least = np.full(extremes.shape, np.inf, np.float32)
    size = np.maximum(np.abs(extremes), np.finfo(np.float32).tiny)[..., None]
    for divisor in _INT4_TRIES:
        scales = nearest_bfloat16(extremes / divisor)
        wrong = _codes(blocks, scales, -8, 7) * widened(scales)[..., None] - blocks
        wrong /= size  # squares of huge and of tiny numbers are none
        error = np.square(wrong, out=wrong).sum(-1)
        better = error < least
        best[better], least[better] = scales[better], error[better]
    return best
