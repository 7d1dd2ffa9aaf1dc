"""Emits attention of a few query heads that share keys as vector instructions, through numba.

Keys are taken in blocks of KEYS from the first one that the queries see, with a running maximum and
mass a query. A key that a query does not see weighs exactly 0, so its bits depend on the keys it
sees and on nothing else: not on the queries in its tile. Keys and values are float32, or bfloat16
widened as they are read. Needs numba; `attend_kernels` is the only one that asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from manyhands.engine.block_tile import (
    LINE,
    NEAR,
    PANEL,
    constant,
    fetch,
    load,
    splat,
    widened,
)
from manyhands.engine.lane_math import exponential, folded, fused, lane_sums
from manyhands.engine.native import emitted

KEYS = 256
"""Keys whose scores exist at one time."""

_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_I32S, _FLOATS = ir.VectorType(_I32, PANEL), ir.VectorType(_FLOAT, PANEL)
_VECTOR = 4 * PANEL  # bytes
Builder = Any
Value = Any


class _Emitter:
    """Writes the attention of a few queries. Addresses, strides (bytes), counts are 64-bit."""

    def __init__(
        self, builder: Builder, arguments: Sequence[Value], rows: int, halved: bool
    ) -> None:
        self._b, self._rows, self._halved = builder, rows, halved
        self._queries, self._outs, self._counts, self._sinks = (
            cgutils.unpack_tuple(builder, each, rows) for each in arguments[:4]
        )
        (
            self._width, self._keys, self._key_row, self._values, self._value_row,
            self._value_width, self._scale, self._soon,
        ) = arguments[4:]  # fmt: skip
        self._at_once = PANEL // rows
        self._wide = 2 if halved else 1  # vectors that come of one load
        self._scores = []
        for _ in range(rows):
            scores = cgutils.alloca_once(builder, ir.ArrayType(_FLOAT, KEYS))
            scores.align = _VECTOR
            self._scores.append(builder.ptrtoint(scores, _I64))

    def number(self, value: int) -> Value:
        return ir.Constant(_I64, value)

    def least(self, one: Value, other: Value) -> Value:
        return self._b.select(self._b.icmp_signed("<", one, other), one, other)

    def larger(self, one: Value, other: Value) -> Value:
        return self._b.select(self._b.fcmp_ordered(">", one, other), one, other)

    def emit(self) -> None:
        """A sink is a score that takes mass and gives nothing; minus infinity for none."""
        b = self._b
        best = [cgutils.alloca_once_value(b, sink) for sink in self._sinks]
        mass = []
        for sink in self._sinks:
            none = b.fcmp_ordered("==", sink, ir.Constant(_FLOAT, -math.inf))
            one, nothing = ir.Constant(_FLOAT, 1.0), ir.Constant(_FLOAT, 0.0)
            mass.append(cgutils.alloca_once_value(b, b.select(none, nothing, one)))
        self._columns(self._clear)
        total = self._counts[0]
        for count in self._counts[1:]:
            total = b.select(b.icmp_signed(">", count, total), count, total)
        with cgutils.for_range_slice(b, self.number(0), total, self.number(KEYS)) as (first, _):
            count = self.least(b.sub(total, first), self.number(KEYS))
            padded = b.and_(b.add(count, self.number(PANEL - 1)), self.number(-PANEL))
            shrinks = []
            for row, top in enumerate(self._score(first, count, padded)):
                before = b.load(best[row])
                now = self.larger(top, before)
                b.store(now, best[row])
                shrink = exponential(b, splat(b, b.fsub(before, now), PANEL))
                shrinks.append(shrink)
                kept = b.fmul(b.load(mass[row]), b.extract_element(shrink, ir.Constant(_I32, 0)))
                b.store(b.fadd(kept, self._weigh(row, now, padded)), mass[row])
            behind = b.add(first, count)
            after = b.add(self._keys, b.mul(behind, self._key_row))
            after = b.select(b.icmp_signed("<", behind, total), after, self._soon)
            self._columns(lambda at, lanes: self._mix(at, lanes, first, count, shrinks, after))
        wholes = [splat(b, b.load(each), PANEL) for each in mass]
        self._columns(lambda at, lanes: self._share(at, lanes, wholes))

    def _score(self, first: Value, count: Value, padded: Value) -> list[Value]:
        """Scores of `count` keys from `first` on into memory, -inf behind them; the highest."""
        b = self._b
        highest = cgutils.alloca_once_value(b, constant(_FLOATS, -math.inf))
        b.store(constant(_FLOATS, -math.inf), highest)
        seen = constant(_I32S, 0)
        for row, limit in enumerate(self._counts):
            # within [0, KEYS], so that 32 bits hold it
            left = self.least(b.sub(limit, first), self.number(KEYS))
            mine = [int(lane // self._at_once == row) for lane in range(PANEL)]
            is_mine = ir.Constant(ir.VectorType(ir.IntType(1), PANEL), mine)
            seen = b.select(is_mine, splat(b, b.trunc(left, _I32), PANEL), seen)
        places = ir.Constant(_I32S, [lane % self._at_once for lane in range(PANEL)])
        step = self.number(self._at_once)
        with cgutils.for_range_slice(b, self.number(0), padded, step) as (some, _):
            sums = b.fmul(self._products(first, some, count), splat(b, self._scale, PANEL))
            place = b.add(places, splat(b, b.trunc(some, _I32), PANEL))
            is_seen = b.icmp_signed("<", place, seen)
            scores = b.select(is_seen, sums, constant(_FLOATS, -math.inf))
            b.store(self.larger(scores, b.load(highest)), highest)
            for row in range(self._rows):
                self._keep(row, some, scores)
        return folded(b, b.load(highest), self._at_once, self.larger)

    def _keep(self, row: int, some: Value, scores: Value) -> None:
        b, lanes = self._b, self._at_once
        form = ir.VectorType(_FLOAT, lanes)
        mine = ir.Constant(ir.VectorType(_I32, lanes), list(range(row * lanes, (row + 1) * lanes)))
        address = b.add(self._scores[row], b.mul(some, self.number(4)))
        pointer = b.inttoptr(address, form.as_pointer())
        b.store(b.shuffle_vector(scores, scores, mine), pointer, align=4 * lanes)

    def _products(self, first: Value, some: Value, count: Value) -> Value:
        """Each query times the keys from `some` on: the first query's products, then the next's."""
        b = self._b
        last = b.sub(count, self.number(1))
        starts = []
        for lane in range(self._at_once):
            key = b.add(first, self.least(b.add(some, self.number(lane)), last))
            starts.append(b.add(self._keys, b.mul(key, self._key_row)))
            self._fetch_value(b.add(self._values, b.mul(key, self._value_row)))
        totals = [cgutils.alloca_once(b, _FLOATS) for _ in range(PANEL)]
        for total in totals:
            b.store(constant(_FLOATS, 0.0), total)
        step = self.number(_VECTOR * self._wide)
        size = b.mul(self._width, self.number(4))
        whole = b.mul(b.udiv(size, step), step)
        with cgutils.for_range_slice(b, self.number(0), whole, step) as (at, _):
            self._add_products(starts, at, self._wide, totals)
        if self._halved:
            with b.if_then(b.icmp_signed("<", whole, size)):
                self._add_products(starts, whole, 1, totals)
        return lane_sums(b, [b.load(total) for total in totals])

    def _fetch_value(self, address: Value) -> None:
        """Ask for a value, of which the scores' weights will be wanted next."""
        b = self._b
        size = b.mul(self._value_width, self.number(4 // self._wide))
        with cgutils.for_range_slice(b, self.number(0), size, self.number(LINE)) as (at, _):
            fetch(b, b.add(address, at), NEAR)

    def _add_products(
        self, starts: Sequence[Value], at: Value, vectors: int, totals: Sequence[Value]
    ) -> None:
        """Of so many vectors at byte `at` of the queries and the keys beside them."""
        b = self._b
        queries = [
            [
                load(b, b.add(query, b.add(at, self.number(_VECTOR * i))), _FLOATS, 4)
                for i in range(vectors)
            ]
            for query in self._queries
        ]
        for lane, start in enumerate(starts):
            keys = self._loaded(b.add(start, b.udiv(at, self.number(self._wide))), vectors)
            for row, query in enumerate(queries):
                total = totals[row * self._at_once + lane]
                for one, other in zip(query, keys, strict=True):
                    b.store(fused(b, one, other, b.load(total)), total)

    def _loaded(self, address: Value, vectors: int) -> list[Value]:
        """One vector; of bfloat16 one, or two: the even numbers of 32, then the odd ones."""
        b = self._b
        if vectors == 1:
            return [widened(b, address) if self._halved else load(b, address, _FLOATS, 4)]
        pairs = load(b, address, _I32S, 2)
        evens, odds = b.shl(pairs, constant(_I32S, 16)), b.and_(pairs, constant(_I32S, -(1 << 16)))
        return [b.bitcast(evens, _FLOATS), b.bitcast(odds, _FLOATS)]

    def _weigh(self, row: int, best: Value, padded: Value) -> Value:
        """Scores to weights e^(score - best), in place; their sum."""
        b = self._b
        mass = cgutils.alloca_once(b, _FLOATS)
        b.store(constant(_FLOATS, 0.0), mass)
        top = splat(b, best, PANEL)
        with cgutils.for_range_slice(b, self.number(0), padded, self.number(PANEL)) as (some, _):
            address = b.add(self._scores[row], b.mul(some, self.number(4)))
            pointer = b.inttoptr(address, _FLOATS.as_pointer())
            weights = exponential(b, b.fsub(b.load(pointer, align=_VECTOR), top))
            b.store(weights, pointer, align=_VECTOR)
            b.store(b.fadd(b.load(mass), weights), mass)
        return folded(b, b.load(mass), PANEL, b.fadd)[0]

    def _mix(
        self,
        at: Value,
        lanes: int,
        first: Value,
        count: Value,
        shrinks: Sequence[Value],
        after: Value,
    ) -> None:
        """Add weight times value of every key to the columns at byte `at` of the output.

        Meanwhile as much of the keys at `after` is asked for.
        """
        b = self._b
        totals = [[cgutils.alloca_once(b, _FLOATS) for _ in range(lanes)] for _ in shrinks]
        for row, shrink in enumerate(shrinks):
            for place, total in enumerate(totals[row]):
                b.store(b.fmul(b.load(self._place(row, at, place), align=4), shrink), total)
        column = b.udiv(at, self.number(self._wide))
        start = b.add(b.add(self._values, b.mul(first, self._value_row)), column)
        lefts = [self.least(b.sub(limit, first), count) for limit in self._counts]
        all_see = self._lowest(lefts)
        after = b.add(after, column)
        with cgutils.for_range_slice(b, self.number(0), all_see, self.number(1)) as (key, _):
            soon = b.add(after, b.mul(key, self._key_row))
            for line in range(-(-lanes * _VECTOR // self._wide // LINE)):
                fetch(b, b.add(soon, self.number(LINE * line)), NEAR)
            self._add_values(key, start, lanes, totals, None)
        if self._rows > 1:
            with cgutils.for_range_slice(b, all_see, count, self.number(1)) as (key, _):
                self._add_values(key, start, lanes, totals, lefts)
        for row, mine in enumerate(totals):
            for place, total in enumerate(mine):
                b.store(b.load(total), self._place(row, at, place), align=4)

    def _lowest(self, lefts: Sequence[Value]) -> Value:
        """How many keys of a block every query sees; 0 where one sees none."""
        lowest = lefts[0]
        for left in lefts[1:]:
            lowest = self.least(left, lowest)
        is_none = self._b.icmp_signed("<", lowest, self.number(0))
        return self._b.select(is_none, self.number(0), lowest)

    def _add_values(
        self,
        key: Value,
        start: Value,
        lanes: int,
        totals: Sequence[Sequence[Value]],
        lefts: Sequence[Value] | None,
    ) -> None:
        """Add what one key gives; only to those that see it, where some do not: a weight of 0 times
        a value that is infinite would be no number.
        """
        b = self._b
        begin = b.add(start, b.mul(key, self._value_row))
        values: list[Value] = []
        at_once = min(self._wide, lanes)
        for place in range(lanes // at_once):
            values += self._loaded(b.add(begin, self.number(_VECTOR * place)), at_once)
        for row, mine in enumerate(totals):
            address = b.add(self._scores[row], b.mul(key, self.number(4)))
            weight = splat(b, load(b, address, _FLOAT, 4), PANEL)
            for value, total in zip(values, mine, strict=True):
                before = b.load(total)
                after = fused(b, weight, value, before)
                if lefts is not None:
                    after = b.select(b.icmp_signed("<", key, lefts[row]), after, before)
                b.store(after, total)

    def _columns(self, work: Callable[[Value, int], None]) -> None:
        """Call work(byte, vectors) for all columns of the output, four vectors at a time or few."""
        b, first = self._b, self.number(0)
        size = b.mul(self._value_width, self.number(4))
        for lanes in (4, 2, 1) if self._halved else (4, 1):
            step = self.number(lanes * _VECTOR)
            most = b.mul(b.udiv(size, step), step)
            with cgutils.for_range_slice(b, first, most, step) as (at, _):
                work(at, lanes)
            first = most

    def _place(self, row: int, at: Value, place: int) -> Value:
        address = self._b.add(self._outs[row], self._b.add(at, self.number(_VECTOR * place)))
        return self._b.inttoptr(address, _FLOATS.as_pointer())

    def _clear(self, at: Value, lanes: int) -> None:
        for row in range(self._rows):
            for place in range(lanes):
                self._b.store(constant(_FLOATS, 0.0), self._place(row, at, place), align=4)

    def _share(self, at: Value, lanes: int, wholes: Sequence[Value]) -> None:
        """Divide by the mass; of bfloat16 put numbers into their order."""
        b = self._b
        for row, whole in enumerate(wholes):
            pointers = [self._place(row, at, place) for place in range(lanes)]
            shares = [b.fdiv(b.load(pointer, align=4), whole) for pointer in pointers]
            if self._halved:
                for place in range(0, lanes - 1, 2):
                    shares[place : place + 2] = self._in_order(*shares[place : place + 2])
            for share, pointer in zip(shares, pointers, strict=True):
                b.store(share, pointer, align=4)

    def _in_order(self, evens: Value, odds: Value) -> list[Value]:
        places = [
            [half + lane // 2 + PANEL * (lane % 2) for lane in range(PANEL)] for half in (0, 8)
        ]
        return [self._b.shuffle_vector(evens, odds, ir.Constant(_I32S, some)) for some in places]


def make_attention(rows: int, halved: bool) -> Callable[..., None]:
    """A function for numba's code: attend(queries, outs, counts, sinks, width, keys, key row,
    values, value row, value width, scale, soon), the mix of values as so many queries weigh them.

    The first four are tuples of an entry a query: addresses of float32 [width] and [value width],
    the number of keys it sees from `keys` on, its sink. `halved`: keys and values are bfloat16,
    and of a query each whole 32 numbers lie with the even ones first. Strides in bytes; widths are
    multiples of 16. 1, 2 or 4 rows.
    """

    @emitted
    def attend(
        _context: Any, queries: Any, outs: Any, counts: Any, sinks: Any, width: Any, keys: Any,
        key_row: Any, values: Any, value_row: Any, value_width: Any, scale: Any, soon: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            queries, outs, counts, sinks, width, keys, key_row, values, value_row, value_width,
            scale, soon,
        )  # fmt: skip

        def emit(context: Any, builder: Builder, _signature: Any, arguments: Any) -> Value:
            _Emitter(builder, arguments, rows, halved).emit()
            return context.get_dummy_value()

        return signature, emit

    return attend
