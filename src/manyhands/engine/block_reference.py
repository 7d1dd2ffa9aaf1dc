"""The arithmetic of integer matrices in numpy: what every kernel must give, bit for bit.

A block of 32 of a row becomes int8 codes and a float32 scale. Products of codes are added up as
integers; then, block after block, total += (float32(sum) * weight scale) * row scale, each of the
three steps rounded to float32. A row never meets another, so its bits depend on itself alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.weight_blocks import BLOCK, WeightBlocks, padded, widened

Float32 = NDArray[np.float32]

SMALLEST = np.float32(1e-30)
"""A block whose largest number is smaller counts as zero: 127 / it could be infinite."""

_FINITE_BELOW = np.int32(0x7F800000)


def quantise_rows(rows: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Rows [N, in] as codes [N, padded] and scales [N, blocks]; NaN where one is not finite."""
    count, width = rows.shape
    blocks = np.zeros((count, padded(width) // BLOCK, BLOCK), np.float32)
    blocks.reshape(count, -1)[:, :width] = rows
    magnitude = blocks.view(np.int32) & np.int32(0x7FFFFFFF)
    most = magnitude.max(-1)
    largest = most.view(np.float32)
    is_finite = most < _FINITE_BELOW
    scales = np.where(is_finite, largest / np.float32(127), np.float32(np.nan))
    is_taken = is_finite & (largest >= SMALLEST)
    by = np.zeros_like(largest)
    np.divide(np.float32(127), largest, out=by, where=is_taken)
    wide = np.where(is_taken[..., None], blocks, np.float32(0)) * by[..., None]
    return np.rint(wide).astype(np.int8).reshape(count, -1), scales


def multiply(weights: WeightBlocks, rows: Float32) -> Float32:
    """Rows [N, in] times the matrix [out, in]: [N, out]."""
    codes, by = quantise_rows(rows)
    scales = widened(weights.scales)
    total = np.zeros((rows.shape[0], weights.codes.shape[0]), np.float32)
    for block in range(scales.shape[1]):
        cut = slice(block * BLOCK, (block + 1) * BLOCK)
        # in float32 every sum of 32 products of bytes is exact, in whatever order
        sums = codes[:, cut].astype(np.float32) @ weights.codes[:, cut].astype(np.float32).T
        sums *= scales[:, block]
        sums *= by[:, block, None]
        total += sums
    return total
