"""Emits attention of one query head as vector instructions, through numba.

Keys are taken in blocks of KEYS from the first one that the query sees, with a running maximum and
mass, so a query's bits depend on the keys it sees and on nothing else: not on how many queries are
computed with it. No fused multiply-add, and an exponential of its own: the same bits on every
processor. Needs numba; `block_kernels` is the only one that asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from manyhands.engine.block_tile import PANEL, constant, load, splat
from manyhands.engine.native import emitted

KEYS = 256
"""Keys whose scores exist at one time."""

_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
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


def _lane_sums(builder: Builder, vectors: Sequence[Value]) -> Value:
    """The sum over the lanes of each of 16 vectors, in the order of the vectors."""
    left, step = list(vectors), PANEL // 2
    while step:
        half = len(left) // 2
        left = [_merged(builder, left[i], left[i + half], step) for i in range(half)]
        step //= 2
    return left[0]


def _folded(builder: Builder, vector: Value, join: Any) -> Value:
    """All lanes joined to one number, halves first."""
    step = PANEL // 2
    while step:
        places = [(lane + step) % PANEL for lane in range(PANEL)]
        turned = builder.shuffle_vector(vector, vector, ir.Constant(_I32S, places))
        vector = join(vector, turned)
        step //= 2
    return builder.extract_element(vector, ir.Constant(_I32, 0))


def exponential(builder: Builder, power: Value) -> Value:
    """Powers of e to 16 numbers that are 0 or less, to about 2 units in the last place."""
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
        result = builder.fadd(builder.fmul(result, rest), constant(_FLOATS, factor))
    scale = builder.shl(builder.add(whole, constant(_I32S, 127)), constant(_I32S, 23))
    result = builder.fmul(result, builder.bitcast(scale, _FLOATS))
    return builder.select(is_in, result, constant(_FLOATS, 0.0))


class _Emitter:
    """Writes the attention of one query. Addresses, strides (bytes) and counts are 64-bit."""

    def __init__(self, builder: Builder, arguments: Sequence[Value]) -> None:
        self._b = builder
        (
            self._query, self._width, self._keys, self._values, self._key_stride,
            self._value_stride, self._count, self._value_width, self._out, self._scale, self._sink,
        ) = arguments  # fmt: skip
        self._scores = cgutils.alloca_once(builder, ir.ArrayType(_FLOAT, KEYS))
        self._scores.align = 64
        self._at = builder.ptrtoint(self._scores, _I64)

    def number(self, value: int) -> Value:
        return ir.Constant(_I64, value)

    def least(self, one: Value, other: Value) -> Value:
        return self._b.select(self._b.icmp_signed("<", one, other), one, other)

    def emit(self) -> None:
        """The sink is a score that takes mass and gives nothing; minus infinity for none."""
        b = self._b
        best = cgutils.alloca_once_value(b, self._sink)
        none = b.fcmp_ordered("==", self._sink, ir.Constant(_FLOAT, -math.inf))
        mass = cgutils.alloca_once_value(
            b, b.select(none, ir.Constant(_FLOAT, 0.0), ir.Constant(_FLOAT, 1.0))
        )
        self._columns(lambda at, lanes: self._store(at, [constant(_FLOATS, 0.0)] * lanes))
        with cgutils.for_range_slice(b, self.number(0), self._count, self.number(KEYS)) as (
            first,
            _,
        ):
            count = self.least(b.sub(self._count, first), self.number(KEYS))
            top = self._score(first, count)
            before = b.load(best)
            now = b.select(b.fcmp_ordered(">", top, before), top, before)
            b.store(now, best)
            shrink = b.extract_element(
                exponential(b, splat(b, b.fsub(before, now), PANEL)), ir.Constant(_I32, 0)
            )
            b.store(b.fadd(b.fmul(b.load(mass), shrink), self._weigh(now)), mass)
            self._columns(lambda at, lanes: self._mix(at, lanes, first, count, shrink))
        whole = splat(b, b.load(mass), PANEL)
        self._columns(
            lambda at, lanes: self._store(
                at, [b.fdiv(value, whole) for value in self._held(at, lanes)]
            )
        )

    def _score(self, first: Value, count: Value) -> Value:
        """Scores of `count` keys from `first` on into memory, -inf behind them; the highest."""
        b = self._b
        highest = cgutils.alloca_once_value(b, constant(_FLOATS, -math.inf))
        with cgutils.for_range_slice(b, self.number(0), self.number(KEYS), self.number(PANEL)) as (
            some, _,
        ):  # fmt: skip
            is_any = b.icmp_signed("<", some, count)
            pointer = b.inttoptr(b.add(self._at, b.mul(some, self.number(4))), _FLOATS.as_pointer())
            with b.if_else(is_any) as (then, otherwise):
                with then:
                    scores = self._products(first, some, count)
                    b.store(scores, pointer, align=64)
                    old = b.load(highest)
                    b.store(b.select(b.fcmp_ordered(">", scores, old), scores, old), highest)
                with otherwise:
                    b.store(constant(_FLOATS, -math.inf), pointer, align=64)

        def larger(one: Value, other: Value) -> Value:
            return b.select(b.fcmp_ordered(">", one, other), one, other)

        return _folded(b, b.load(highest), larger)

    def _products(self, first: Value, some: Value, count: Value) -> Value:
        b = self._b
        last = b.sub(count, self.number(1))
        starts = []
        for lane in range(PANEL):
            key = b.add(first, self.least(b.add(some, self.number(lane)), last))
            starts.append(b.add(self._keys, b.mul(key, self._key_stride)))
        totals = [cgutils.alloca_once_value(b, constant(_FLOATS, 0.0)) for _ in range(PANEL)]
        size = b.mul(self._width, self.number(4))
        with cgutils.for_range_slice(b, self.number(0), size, self.number(4 * PANEL)) as (at, _):
            query = load(b, b.add(self._query, at), _FLOATS, 4)
            for start, total in zip(starts, totals, strict=True):
                product = b.fmul(query, load(b, b.add(start, at), _FLOATS, 4))
                b.store(b.fadd(b.load(total), product), total)
        sums = b.fmul(
            _lane_sums(b, [b.load(total) for total in totals]), splat(b, self._scale, PANEL)
        )
        lanes = ir.Constant(_I32S, list(range(PANEL)))
        left = splat(b, b.trunc(b.sub(count, some), _I32), PANEL)
        return b.select(b.icmp_signed("<", lanes, left), sums, constant(_FLOATS, -math.inf))

    def _weigh(self, best: Value) -> Value:
        """Scores to weights e^(score - best), in place; their sum."""
        b = self._b
        mass = cgutils.alloca_once_value(b, constant(_FLOATS, 0.0))
        with cgutils.for_range_slice(b, self.number(0), self.number(KEYS), self.number(PANEL)) as (
            some, _,
        ):  # fmt: skip
            pointer = b.inttoptr(b.add(self._at, b.mul(some, self.number(4))), _FLOATS.as_pointer())
            weights = exponential(b, b.fsub(b.load(pointer, align=64), splat(b, best, PANEL)))
            b.store(weights, pointer, align=64)
            b.store(b.fadd(b.load(mass), weights), mass)
        return _folded(b, b.load(mass), b.fadd)

    def _mix(self, at: Value, lanes: int, first: Value, count: Value, shrink: Value) -> None:
        """Add weight times value of every key to the columns at byte `at`."""
        b = self._b
        by = splat(b, shrink, PANEL)
        totals = [cgutils.alloca_once(b, _FLOATS) for _ in range(lanes)]
        for total, value in zip(totals, self._held(at, lanes), strict=True):
            b.store(b.fmul(value, by), total)
        start = b.add(b.add(self._values, b.mul(first, self._value_stride)), at)
        with cgutils.for_range(b, count) as loop:
            weight = load(b, b.add(self._at, b.mul(loop.index, self.number(4))), _FLOAT, 4)
            weights = splat(b, weight, PANEL)
            row = b.add(start, b.mul(loop.index, self._value_stride))
            for place, total in enumerate(totals):
                value = load(b, b.add(row, self.number(4 * PANEL * place)), _FLOATS, 4)
                b.store(b.fadd(b.load(total), b.fmul(weights, value)), total)
        self._store(at, [b.load(total) for total in totals])

    def _columns(self, work: Any) -> None:
        """Call work(byte, vectors) for all columns of the output, four vectors at a time or one."""
        b = self._b
        size = b.mul(self._value_width, self.number(4))
        wide = self.number(16 * PANEL)
        most = b.mul(b.udiv(size, wide), wide)
        with cgutils.for_range_slice(b, self.number(0), most, wide) as (at, _):
            work(at, 4)
        with cgutils.for_range_slice(b, most, size, self.number(4 * PANEL)) as (at, _):
            work(at, 1)

    def _place(self, at: Value, place: int) -> Value:
        address = self._b.add(self._out, self._b.add(at, self.number(4 * PANEL * place)))
        return self._b.inttoptr(address, _FLOATS.as_pointer())

    def _held(self, at: Value, lanes: int) -> list[Value]:
        return [self._b.load(self._place(at, place), align=4) for place in range(lanes)]

    def _store(self, at: Value, values: Sequence[Value]) -> None:
        for place, value in enumerate(values):
            self._b.store(value, self._place(at, place), align=4)


@emitted
def attend_one(
    _context: Any, query: Any, width: Any, keys: Any, values: Any, key_stride: Any,
    value_stride: Any, count: Any, value_width: Any, out: Any, scale: Any, sink: Any,
) -> Any:  # fmt: skip
    """For numba's code: the mix [value_width] of `count` values as one query [width] weighs them.

    Addresses and strides in bytes; widths are multiples of 16. `scale` and `sink` are float32.
    """
    signature = types.void(
        query, width, keys, values, key_stride, value_stride, count, value_width, out, scale, sink
    )

    def emit(context: Any, builder: Builder, _signature: Any, arguments: Any) -> Value:
        _Emitter(builder, arguments).emit()
        return context.get_dummy_value()

    return signature, emit
