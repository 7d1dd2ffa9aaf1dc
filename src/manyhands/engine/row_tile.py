"""Emits the norm of a row, its gate and its codes as vector instructions, through numba.

Squares are added up lane by lane, then the lanes, halves first, each step rounded by itself: a
row's bits depend on that row alone, and are the same on every processor. Rows are float32, or
bfloat16 widened as they are read. Needs numba; only `row_kernels` and
`block_kernels` ask for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from manyhands.engine.block_tile import PANEL, call, constant, halved, load, splat, widened
from manyhands.engine.lane_math import exponential, folded
from manyhands.engine.native import emitted

_I64, _FLOAT = ir.IntType(64), ir.FloatType()
_I8S, _I32S = ir.VectorType(ir.IntType(8), PANEL), ir.VectorType(ir.IntType(32), PANEL)
_I16S, _FLOATS = ir.VectorType(ir.IntType(16), PANEL), ir.VectorType(_FLOAT, PANEL)

Builder = Any
Value = Any


class _Norm:
    """Writes the norm of one row. Addresses and the width are 64-bit."""

    def __init__(self, builder: Builder, arguments: Sequence[Value], is_halved: bool) -> None:
        self._b, self._is_halved = builder, is_halved
        self._row, self._weight, self._out, self._width, self._least, self._more = arguments

    def _steps(self) -> Any:
        zero, step = ir.Constant(_I64, 0), ir.Constant(_I64, PANEL)
        return cgutils.for_range_slice(self._b, zero, self._width, step)

    def _address(self, start: Value, place: Value) -> Value:
        size = ir.Constant(_I64, 2 if self._is_halved else 4)
        return self._b.add(start, self._b.mul(place, size))

    def _loaded(self, start: Value, place: Value) -> Value:
        address = self._address(start, place)
        return widened(self._b, address) if self._is_halved else load(self._b, address, _FLOATS, 4)

    def emit(self) -> None:
        b = self._b
        total = cgutils.alloca_once(b, _FLOATS)
        b.store(constant(_FLOATS, 0.0), total)
        with self._steps() as (place, _):
            some = self._loaded(self._row, place)
            b.store(b.fadd(b.load(total), b.fmul(some, some)), total)
        square = folded(b, b.load(total), PANEL, b.fadd)[0]
        mean = b.fdiv(square, b.sitofp(self._width, _FLOAT))
        root = call(b, "llvm.sqrt.f32", _FLOAT, [b.fadd(mean, self._least)])
        by = splat(b, b.fdiv(ir.Constant(_FLOAT, 1.0), root), PANEL)
        more = splat(b, self._more, PANEL)
        has_weight = b.icmp_signed("!=", self._weight, ir.Constant(_I64, 0))
        with b.if_else(has_weight) as (then, otherwise):
            with then, self._steps() as (place, _):
                weight = b.fadd(self._loaded(self._weight, place), more)
                self._keep(place, b.fmul(b.fmul(self._loaded(self._row, place), by), weight))
            with otherwise, self._steps() as (place, _):
                self._keep(place, b.fmul(self._loaded(self._row, place), by))

    def _keep(self, place: Value, numbers: Value) -> None:
        b, address = self._b, self._address(self._out, place)
        if self._is_halved:
            b.store(halved(b, numbers), b.inttoptr(address, _I16S.as_pointer()), align=2)
        else:
            b.store(numbers, b.inttoptr(address, _FLOATS.as_pointer()), align=4)


def make_norm(is_halved: bool) -> Callable[..., None]:
    """A function for numba's code: norm(row, weight, out, width, least, more).

    Addresses of float32 or bfloat16, the width a multiple of 16; the weight's may be 0 for none.
    A row is divided by the root of (its mean square + least), then times (weight + more).
    """

    @emitted
    def norm(
        _context: Any, row: Any, weight: Any, out: Any, width: Any, least: Any, more: Any
    ) -> Any:
        signature = types.void(row, weight, out, width, least, more)

        def emit(context: Any, builder: Builder, _signature: Any, arguments: Any) -> Value:
            _Norm(builder, arguments, is_halved).emit()
            return context.get_dummy_value()

        return signature, emit

    return norm


def _silu(builder: Builder, numbers: Value) -> Value:
    """X / (1 + e^-x), with e to a power of 0 or less on either side."""
    zero, one = constant(_FLOATS, 0.0), constant(_FLOATS, 1.0)
    is_below = builder.fcmp_ordered("<", numbers, zero)
    power = builder.select(is_below, numbers, builder.fsub(zero, numbers))
    shrunk = exponential(builder, power)
    above = builder.select(is_below, shrunk, one)
    return builder.fmul(numbers, builder.fdiv(above, builder.fadd(one, shrunk)))


def make_gate() -> Callable[..., None]:
    """A function for numba's code: gate(gate, up, out, width), silu(gate) * up.

    Addresses of float32, the width a multiple of 16.
    """

    @emitted
    def gated(_context: Any, gate: Any, up: Any, out: Any, width: Any) -> Any:
        signature = types.void(gate, up, out, width)

        def emit(context: Any, builder: Builder, _signature: Any, arguments: Any) -> Value:
            *starts, count = arguments
            zero, step = ir.Constant(_I64, 0), ir.Constant(_I64, PANEL)
            with cgutils.for_range_slice(builder, zero, count, step) as (place, _):
                offset = builder.mul(place, ir.Constant(_I64, 4))
                some, others, to = (builder.add(start, offset) for start in starts)
                inner = _silu(builder, load(builder, some, _FLOATS, 4))
                product = builder.fmul(inner, load(builder, others, _FLOATS, 4))
                builder.store(product, builder.inttoptr(to, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return signature, emit

    return gated


_FINITE_BELOW, _SIGNLESS, _SMALLEST = 0x7F800000, 0x7FFFFFFF, 1e-30
"""As in `block_reference`."""


class _Codes:
    """Writes the codes of one whole block of a row."""

    def __init__(self, builder: Builder) -> None:
        self._b = builder

    def larger(self, one: Value, other: Value) -> Value:
        return self._b.select(self._b.icmp_signed(">", one, other), one, other)

    def emit(self, row: Value, codes: Value, scale: Value, start: Value, times: Value) -> None:
        b, float_0, int_32 = self._b, constant(_FLOATS, 0.0), ir.IntType(32)
        second = ir.Constant(_I64, 4 * PANEL)
        halves = [load(b, row, _FLOATS, 4), load(b, b.add(row, second), _FLOATS, 4)]
        sizes = [b.and_(b.bitcast(half, _I32S), constant(_I32S, _SIGNLESS)) for half in halves]
        # as integers: the order of positive numbers is the same, and NaN is above all
        most = folded(b, self.larger(*sizes), PANEL, self.larger)[0]
        is_finite = b.icmp_signed("<", most, ir.Constant(int_32, _FINITE_BELOW))
        largest = b.bitcast(most, _FLOAT)
        is_taken = b.fcmp_ordered(">=", largest, ir.Constant(_FLOAT, _SMALLEST))
        is_taken = b.and_(is_taken, is_finite)
        full = ir.Constant(_FLOAT, 127.0)
        by = b.fdiv(full, b.select(is_taken, largest, full))
        mine = b.select(is_finite, b.fdiv(largest, full), ir.Constant(_FLOAT, math.nan))
        b.store(mine, b.inttoptr(scale, _FLOAT.as_pointer()))
        total = constant(_I32S, 0)
        for place, half in enumerate(halves):
            product = b.fmul(b.select(is_taken, half, float_0), splat(b, by, PANEL))
            code = b.fptosi(call(b, "llvm.rint.v16f32", _FLOATS, [product]), _I32S)
            total = b.add(total, code)
            to = b.add(codes, ir.Constant(_I64, PANEL * place))
            b.store(b.trunc(code, _I8S), b.inttoptr(to, _I8S.as_pointer()), align=4)
        sums = b.mul(folded(b, total, PANEL, b.add)[0], b.trunc(times, int_32))
        b.store(sums, b.inttoptr(start, int_32.as_pointer()))


def make_codes() -> Callable[..., None]:
    """A function for numba's code: codes(row, codes, scale, start, times), all 64-bit.

    Addresses of a whole block of float32 and of what it becomes, see `block_reference`; the start
    is the sum of the codes so many `times`.
    """

    @emitted
    def coded(_context: Any, row: Any, codes: Any, scale: Any, start: Any, times: Any) -> Any:
        signature = types.void(row, codes, scale, start, times)

        def emit(context: Any, builder: Builder, _signature: Any, arguments: Any) -> Value:
            _Codes(builder).emit(*arguments)
            return context.get_dummy_value()

        return signature, emit

    return coded
