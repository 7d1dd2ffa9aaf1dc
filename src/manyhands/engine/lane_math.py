"""Emits what compiled kernels compute of vectors of 16 float32: sums of lanes, powers of e.

The exponential is our own, so bits are the same on every processor that has a fused multiply-add
(FUSED). Needs numba.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from manyhands.engine.block_tile import PANEL, call, constant, has_feature

FUSED = has_feature("fma", "neon", "v", "vsx")
"""Whether products are added without being rounded; elsewhere that would be a call a number."""

_I32, _FLOAT = ir.IntType(32), ir.FloatType()
_I32S, _FLOATS = ir.VectorType(_I32, PANEL), ir.VectorType(_FLOAT, PANEL)
_LEAST = -87.0
"""e to the power of less is not a normal float32, and counts as 0."""

_EXP = (1.0, 1.0, 0.5, 1 / 6, 1 / 24, 1 / 120, 1 / 720)

Builder = Any
Value = Any


def _merged(builder: Builder, one: Value, other: Value, step: int) -> Value:
    """Sums of lanes `step` apart: those of `one` in the lower places of each pair of groups."""
    low, high = [], []
    for lane in range(PANEL):
        group, place = divmod(lane, 2 * step)
        from_one = place < step
        base = group * 2 * step + place % step + (0 if from_one else PANEL)
        low.append(base)
        high.append(base + step)
    form = ir.VectorType(_I32, PANEL)
    return builder.fadd(
        builder.shuffle_vector(one, other, ir.Constant(form, low)),
        builder.shuffle_vector(one, other, ir.Constant(form, high)),
    )


def lane_sums(builder: Builder, vectors: Sequence[Value]) -> Value:
    """The sum over the lanes of each of 16 vectors, in the order of the vectors."""
    left, step = list(vectors), PANEL // 2
    while step:
        half = len(left) // 2
        left = [_merged(builder, left[i], left[i + half], step) for i in range(half)]
        step //= 2
    return left[0]


def folded(builder: Builder, vector: Value, lanes: int, join: Any) -> list[Value]:
    """Each group of so many lanes joined to one number, halves first."""
    step = lanes // 2
    while step:
        places = [
            group + (lane + step) % lanes
            for group in range(0, PANEL, lanes)
            for lane in range(lanes)
        ]
        turned = builder.shuffle_vector(vector, vector, ir.Constant(_I32S, places))
        vector = join(vector, turned)
        step //= 2
    return [
        builder.extract_element(vector, ir.Constant(_I32, group))
        for group in range(0, PANEL, lanes)
    ]


def exponential(builder: Builder, power: Value) -> Value:
    """Powers of e to 16 numbers that are 0 or less or NaN, to about 2 units in the last place."""
    is_nan, given = builder.fcmp_unordered("uno", power, power), power
    is_in = builder.fcmp_ordered(">=", power, constant(_FLOATS, _LEAST))
    power = builder.select(is_in, power, constant(_FLOATS, 0.0))
    halved = builder.fsub(
        builder.fmul(power, constant(_FLOATS, 1 / math.log(2))), constant(_FLOATS, 0.5)
    )
    whole = builder.fptosi(halved, _I32S)  # towards zero: the nearest, ties whichever
    times = builder.sitofp(whole, _FLOATS)
    rest = builder.fsub(power, builder.fmul(times, constant(_FLOATS, 0.693359375)))
    rest = builder.fsub(rest, builder.fmul(times, constant(_FLOATS, -2.12194440e-4)))
    result = constant(_FLOATS, _EXP[-1])
    for factor in reversed(_EXP[:-1]):
        result = fused(builder, result, rest, constant(_FLOATS, factor))
    scale = builder.shl(builder.add(whole, constant(_I32S, 127)), constant(_I32S, 23))
    result = builder.fmul(result, builder.bitcast(scale, _FLOATS))
    result = builder.select(is_in, result, constant(_FLOATS, 0.0))
    return builder.select(is_nan, given, result)


def fused(builder: Builder, one: Value, other: Value, total: Value) -> Value:
    """One times other, added to total."""
    if FUSED:
        return call(builder, "llvm.fma.v16f32", _FLOATS, [one, other, total])
    return builder.fadd(builder.fmul(one, other), total)
