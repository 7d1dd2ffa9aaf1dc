"""Quantised numbers of other people's checkpoints -> float32: MXFP4 and block-scaled FP8.

Done once, at load. Knows nothing of files or layers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""E2M1 without its sign (OCP Microscaling Formats 1.0, 2023)."""

_EXPONENT_BIAS = 127
"""Of E8M0: a byte b stands for 2 ** (b - 127)."""


def mxfp4(blocks: NDArray[np.uint8], exponents: NDArray[np.uint8]) -> Float32:
    """Blocks [out, B, 16] of two numbers a byte, the lower half first, exponents [out, B].

    Gives [out, B * 32].
    """
    numbers = _fp4_pairs()[blocks]
    shift = exponents.astype(np.int32) - _EXPONENT_BIAS
    scaled: Float32 = np.ldexp(numbers, shift[..., None, None])
    return scaled.reshape(blocks.shape[0], -1)


def fp8_blocks(numbers: NDArray[np.uint8], factors: Float32, block: tuple[int, int]) -> Float32:
    """E4M3 numbers [out, in] times the factor of the `block` each lies in; the last may be cut."""
    wide = _fp8_values()[numbers]
    rows, columns = numbers.shape
    wide *= np.repeat(np.repeat(factors, block[0], 0)[:rows], block[1], 1)[:, :columns]
    return wide


def _fp4_pairs() -> Float32:
    """The two numbers of every byte, [256, 2]."""
    values = np.array([*_FP4, *(-value for value in _FP4)], np.float32)
    byte = np.arange(256)
    return np.stack([values[byte & 15], values[byte >> 4]], 1)


def _fp8_values() -> Float32:
    """The number of every byte: sign, 4 bits of exponent (bias 7), 3 of fraction; no infinities.

    (Micikevicius et al. 2022.)
    """
    byte = np.arange(256)
    exponent, fraction = (byte >> 3) & 15, (byte & 7).astype(np.float32)
    normal = np.ldexp(1 + fraction / 8, exponent - 7)
    size = np.where(exponent == 0, np.ldexp(fraction, -9), normal)
    size[(byte & 127) == 127] = np.nan
    return np.where(byte < 128, size, -size).astype(np.float32)
