"""The slopes of alibi (Press et al. 2022), one a head, as the families that use it compute them.

Knows nothing of scores.
"""

from __future__ import annotations

import math

import numpy as np


def slopes(heads: int) -> tuple[float, ...]:
    """Of Bloom and Falcon: those of a power of two below, then every other of the next one's."""
    power = 2 ** math.floor(math.log2(heads))
    first = [_float32(2.0 ** (-8 * (head + 1) / power)) for head in range(power)]
    rest = [_float32(2.0 ** (-4 * (2 * head + 1) / power)) for head in range(heads - power)]
    return (*first, *rest)


def slopes_below(heads: int, steepest: int) -> tuple[float, ...]:
    """Of MPT: of the power of two above every other, odd ones first; the last is 2**-steepest."""
    power = 2 ** math.ceil(math.log2(heads))
    all_heads = [_float32(2.0 ** -((head + 1) * steepest / power)) for head in range(power)]
    chosen = all_heads if power == heads else [*all_heads[1::2], *all_heads[::2]]
    return tuple(chosen[:heads])


def _float32(value: float) -> float:
    return float(np.float32(value))
