"""The child process of `compiled`: compiles every kernel, keeps them, compares their numbers.

    python -m manyhands.engine.compiled_child

Exits 0 when all are right; anything else, a crash above all, means that they are not to be used.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.weight_blocks import quantise, widened
from manyhands.domain.model_spec import Attention
from manyhands.engine import numpy_math
from manyhands.engine.block_linear import CompiledProduct, ReferenceProduct
from manyhands.engine.compiled import kept_here

with kept_here():
    from manyhands.engine import block_kernels
    from manyhands.engine.crew import Crew
from manyhands.engine.row_attention import Kept, attend, kept

SHAPES = ((48, 64), (40, 96), (100, 70))
"""Outputs and inputs: whole panels and blocks, and cut ones."""

ROWS = (1, 2, 3, 4, 5, 8, 33)


def numbers(*shape: int) -> NDArray[np.float32]:
    """Ordinary numbers without chance: they look irregular and are the same each time."""
    count = int(np.prod(shape))
    wave = np.sin(np.arange(1, count + 1, dtype=np.float64) * 1.7 + np.sqrt(np.arange(count)))
    return wave.astype(np.float32).reshape(shape)


def odd_rows(width: int) -> NDArray[np.float32]:
    """Rows with zeros, tiny and huge numbers, infinity and NaN among them."""
    rows = numbers(ROWS[-1], width)
    rows[1] = 0
    rows[2] *= 1e-35
    rows[3] *= 1e30
    rows[4, 5], rows[5, 40] = np.inf, np.nan
    return rows


def products_are_right(crew: Crew) -> bool:
    """True when compiled products are the reference's, bit for bit, at every number of rows."""
    for (outs, width), bits in product(SHAPES, (8, 4)):
        weights = quantise(numbers(outs, width), 8 if bits == 8 else 4)
        compiled, rows = CompiledProduct(weights, crew), odd_rows(width)
        expected = ReferenceProduct(weights)(rows)
        for count in ROWS:
            if not np.array_equal(compiled(rows[:count]), expected[:count], equal_nan=True):
                return False
    return True


def attention_is_right(crew: Crew) -> bool:
    """True when attention agrees with numpy's, and a query by itself with it among others.

    Groups of two heads and of one make tiles of four, two and one queries; keys and values are
    float32 and bfloat16.
    """
    forms = ((None, False, True), (30, True, True), (30, False, False))
    for (window, sinks, causal), heads, halved in product(forms, (4, 2), (False, True)):
        spec = Attention(heads, 2, 32, 96, 32**-0.5, causal, window=window, sinks=sinks)
        beside = numbers(9, heads + 2, 32)  # as torch gives them: with the keys behind them
        queries, keys, values = beside[:, :heads].copy(), numbers(2, 309, 32), numbers(2, 309, 96)
        sink = numbers(heads) if sinks else None
        known: tuple[Kept, Kept] = (keys, values)
        if halved:
            known = kept(keys), kept(values)
            keys, values = widened(kept(keys)), widened(kept(values))
        together = attend(queries, *known, 300, spec, sink, crew)
        expected = numpy_math.attend(queries, keys, values, 300, spec, sink)
        seen = [each[:, : 304 if causal else 309] for each in known]
        alone = attend(queries[3:4], seen[0], seen[1], 303, spec, sink, crew)
        some = attend(beside[:4, :heads], seen[0], seen[1], 300, spec, sink, crew)
        is_same = np.array_equal(alone[0], together[3]) and np.array_equal(some, together[:4])
        if np.abs(together - expected).max() > 1e-5 or not is_same:
            return False
    return True


def main() -> int:
    """Compile and compare; the exit status."""
    crew = Crew(2, block_kernels)
    if not products_are_right(crew):
        sys.stdout.write("products are not those of the reference\n")
        return 1
    if not attention_is_right(crew):
        sys.stdout.write("attention is not that of the reference\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
