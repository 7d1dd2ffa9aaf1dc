"""The child process of `compiled`: compiles every kernel, keeps them, compares their numbers.

    python -m manyhands.engine.compiled_child

Exits 0 when all are right; anything else, a crash above all, means that they are not to be used.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.panels import laid_out
from manyhands.codec.weight_blocks import quantise, widened
from manyhands.domain.model_spec import Attention, Norm, Rope
from manyhands.engine import numpy_math
from manyhands.engine.block_linear import CompiledProduct, ReferenceProduct
from manyhands.engine.compiled import kept_here

with kept_here():
    from manyhands.engine import block_kernels, row_kernels
    from manyhands.engine.crew import Crew
from manyhands.engine.layer_weights import NormWeights
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
        panels = laid_out(quantise(numbers(outs, width), 8 if bits == 8 else 4))
        compiled, rows = CompiledProduct(panels, crew), odd_rows(width)
        expected = ReferenceProduct(panels)(rows)
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


def rows_are_right(crew: Crew) -> bool:
    """True when norms and gates of rows are numpy's, a norm of a row by itself the same bits."""
    for width, more in product((64, 96), (0, 1)):
        rows, weight = numbers(9, width), numbers(width)
        spec, halved = Norm("rms", 1e-6, plus_one=bool(more)), kept(rows)
        expected = numpy_math.norm(rows, spec, NormWeights(weight, None))
        out, one = np.empty_like(rows), np.empty_like(rows[3])
        for begin, end, to in ((0, 9, out), (3, 4, one)):
            given = rows[begin:end].ctypes.data, weight.ctypes.data, to.ctypes.data
            crew.rows.norm_rows(False, *given, end - begin, width, spec.eps, float(more))
        out_halved, weight_halved = np.empty_like(halved), kept(weight)
        given = halved.ctypes.data, weight_halved.ctypes.data, out_halved.ctypes.data
        crew.rows.norm_rows(True, *given, 9, width, spec.eps, float(more))
        is_near = np.allclose(out, expected, 1e-6, 1e-6)
        is_halved_near = np.allclose(widened(out_halved), expected, 2e-2, 2e-2)
        gated, gate = np.empty((9, width // 2), np.float32), 4 * rows
        wide = gate.astype(np.float64)
        sides = wide[:, : width // 2], wide[:, width // 2 :]
        crew.rows.gate_rows(gate.ctypes.data, gated.ctypes.data, 9, width // 2)
        is_near &= np.allclose(gated, sides[0] / (1 + np.exp(-sides[0])) * sides[1], 1e-5, 1e-6)
        if not is_near or not is_halved_near or not np.array_equal(out[3], one):
            return False
    return True


def keeping_is_right(crew: Crew) -> bool:
    """True when rows are turned, kept and attended to as by numpy's rotation and `attend`."""
    spec, position, tokens = Attention(4, 2, 32, 48, 32**-0.5, True), 30, 5
    rows = numbers(tokens, 6 * 32 + 2 * 48)
    cos_sin = numbers(tokens, 2, 16)
    known = [kept(numbers(2, position + tokens, width)) for width in (32, 48)]
    lies = [each for one in known for each in (one.ctypes.data, *one.strides[:2])]
    parts = np.array([[0, tokens, position, *lies, 0, 0]])
    out = np.empty((tokens, 4, 48), np.float32)
    for interleaved, halved in product((False, True), (False, True)):
        given: Kept = kept(rows) if halved else rows
        wide = widened(kept(rows)) if halved else rows
        turned = wide[:, : 6 * 32].reshape(tokens, 6, 32).copy()
        rope = Rope((1.0,) * 16, interleaved)
        numpy_math.rotate(turned, rope, cos_sin[:, 0], cos_sin[:, 1])
        number = crew.kernels.attend_rows(
            crew.state, crew.threads, halved, given.ctypes.data, cos_sin.ctypes.data,
            parts.ctypes.data, 1, out.ctypes.data, crew.room(4 * (tokens * 4 * 32 + 48)),
            4, 2, 32, 48, 16, interleaved, spec.scale, 0, 0,
        )  # fmt: skip
        crew.end(number)
        new = widened(known[0][:, position:]).swapaxes(0, 1)
        expected = attend(turned[:, :4], known[0], known[1], position, spec, None, crew)
        if not np.allclose(new, turned[:, 4:], 1 / 128) or not np.allclose(out, expected, 1e-5):
            return False
        values = wide[:, 6 * 32 :].reshape(tokens, 2, 48).swapaxes(0, 1)
        if not np.array_equal(known[1][:, position:], kept(np.ascontiguousarray(values))):
            return False
    return True


def main() -> int:
    """Compile and compare; the exit status."""
    crew = Crew(2, block_kernels, row_kernels)
    if not products_are_right(crew):
        sys.stdout.write("products are not those of the reference\n")
        return 1
    if not attention_is_right(crew):
        sys.stdout.write("attention is not that of the reference\n")
        return 1
    if not rows_are_right(crew):
        sys.stdout.write("norms or gates are not those of the reference\n")
        return 1
    if not keeping_is_right(crew):
        sys.stdout.write("kept keys and values are not those of the reference\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
