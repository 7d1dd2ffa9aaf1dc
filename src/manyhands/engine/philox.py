"""Counter-based random bits: Philox4x32-10, vectorised in numpy; the same words on every machine.

Knows nothing of tokens or scores. No state: a word is a function of key and counter alone, so the
order in which anybody asks can never change what is drawn.
Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
"""32-bit words, each kept in 64 bits so that products need no widening."""

_MULTIPLY = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
ROUNDS = 10


def philox4x32(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> Words:
    """Four random 32-bit words for each counter: [4, N] from four words [N] or [1] and a key.

    Words beyond 32 bits are the caller's fault and give other numbers than the paper's.
    """
    shape = np.broadcast_shapes(*(word.shape for word in counter))
    words = np.empty((4, *shape), np.uint64)
    for row, word in zip(words, counter, strict=True):
        row[...] = word
    c0, c1, c2, c3 = words
    p0, p1 = np.empty((2, *shape), np.uint64)
    k0, k1 = key
    for _ in range(ROUNDS):
        # All in place: at 32,000 tokens a fresh array for each product costs more than the product.
        np.multiply(c0, _MULTIPLY[0], out=p0)
        np.multiply(c2, _MULTIPLY[1], out=p1)
        np.right_shift(p1, _HALF, out=c0)
        c0 ^= c1
        c0 ^= np.uint64(k0)
        np.right_shift(p0, _HALF, out=c2)
        c2 ^= c3
        c2 ^= np.uint64(k1)
        np.bitwise_and(p1, _LOW, out=c1)
        np.bitwise_and(p0, _LOW, out=c3)
        k0 = (k0 + _WEYL[0]) & 0xFFFFFFFF
        k1 = (k1 + _WEYL[1]) & 0xFFFFFFFF
    return words


def uniform(words: Words) -> NDArray[np.float64]:
    """Numbers in the open interval (0, 1), one a 32-bit word; neither end is ever reached."""
    numbers = words.view(np.int64).astype(np.float64)
    numbers += 0.5
    numbers *= 2.0**-32
    return numbers
