"""Emits the innermost loop of the integer matrix product as vector instructions, through numba.

A tile is R rows times P panels of 16 outputs. Per block of 32 it adds up u8 x s8 products in int32,
then adds float(sum) * weight scale * row scale to a float32, each step rounded by itself (no fused
multiply-add): so every processor, and the numpy reference, gets the same bits, and a row's never
depend on the tile it is in. Needs numba; `block_kernels` is the only one that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config

from manyhands.engine.native import emitted

PANEL = 16
"""Outputs that lie beside each other in a panel: the lanes of a vector."""

BLOCK_BYTES = {8: 512, 4: 256}
"""A panel's codes of one block of 32."""

LINE = 64
"""Bytes of a cache line, or a part of one."""

NEAREST, NEAR = 3, 2
"""The first-level cache, and the second-level one."""

SCALE_BYTES = 32
"""A panel's scales of one block, bfloat16."""

_I8, _I16, _I32, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_LANES_I32, _LANES_F32 = ir.VectorType(_I32, PANEL), ir.VectorType(_FLOAT, PANEL)
_LANES_I16 = ir.VectorType(_I16, PANEL)

Builder = Any
Value = Any


def has_feature(*names: str) -> bool:
    """True where numba compiles for a processor that has one of these, by LLVM's names."""
    if config.CPU_FEATURES is not None:
        return any(f"+{name}" in config.CPU_FEATURES.split(",") for name in names)
    features = binding.get_host_cpu_features()
    return any(features.get(name, False) for name in names)


def instruction_set() -> str:
    """The best of vnni512, vnni256, avx2 and plain that numba compiles for here."""
    if has_feature("avx512vnni"):
        return "vnni512"
    if has_feature("avxvnni"):
        return "vnni256"
    return "avx2" if has_feature("avx2") else "plain"


INSTRUCTIONS = instruction_set()


def splat(builder: Builder, value: Value, lanes: int) -> Value:
    """A vector of one value."""
    form = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(form, ir.Undefined), value, ir.Constant(_I32, 0))
    places = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(form, ir.Undefined), places)


def constant(form: Any, value: float) -> Value:
    """A vector constant of one value."""
    return ir.Constant(form, [value] * form.count)


def load(builder: Builder, address: Value, form: Any, align: int) -> Value:
    """What lies at an address that is an integer."""
    return builder.load(builder.inttoptr(address, form.as_pointer()), align=align)


def fetch(builder: Builder, address: Value, how_near: int) -> None:
    """Ask for memory that will be read soon; it may lie behind the end of what there is."""
    byte = builder.inttoptr(address, _I8.as_pointer())
    how = [ir.Constant(_I32, word) for word in (0, how_near, 1)]  # to read, how near, data
    call(builder, "llvm.prefetch.p0", ir.VoidType(), [byte, *how])


def call(builder: Builder, name: str, result: Any, arguments: Sequence[Value]) -> Value:
    """What one of the compiler's own functions gives."""
    form = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, form, name), arguments)


def widened(builder: Builder, address: Value) -> Value:
    """16 numbers of bfloat16 at an address as float32."""
    bits = builder.zext(load(builder, address, _LANES_I16, 2), _LANES_I32)
    return builder.bitcast(builder.shl(bits, constant(_LANES_I32, 16)), _LANES_F32)


def halved(builder: Builder, numbers: Value) -> Value:
    """16 numbers of float32 as the nearest of bfloat16, ties to even; any NaN becomes one."""
    bits = builder.bitcast(numbers, _LANES_I32)
    odd = builder.and_(builder.lshr(bits, constant(_LANES_I32, 16)), constant(_LANES_I32, 1))
    near = builder.add(bits, builder.add(odd, constant(_LANES_I32, 0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", numbers, numbers)
    near = builder.select(is_nan, constant(_LANES_I32, 0x7FC00000), near)
    return builder.trunc(builder.lshr(near, constant(_LANES_I32, 16)), _LANES_I16)


def _cut(builder: Builder, value: Value, first: int, last: int) -> Value:
    places = ir.Constant(ir.VectorType(_I32, last - first), list(range(first, last)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), places)


def _joined(builder: Builder, low: Value, high: Value) -> Value:
    places = ir.Constant(ir.VectorType(_I32, 2 * low.type.count), list(range(2 * low.type.count)))
    return builder.shuffle_vector(low, high, places)


def _in_halves(
    builder: Builder, name: str, element: Any, total: Value, one: Value, other: Value
) -> Value:
    """A 256-bit instruction (total, one, other) twice."""
    halves = []
    for first in (0, 8):
        three = [_cut(builder, value, first, first + 8) for value in (total, one, other)]
        form = ir.VectorType(element, 256 // element.width)
        given = [three[0], *(builder.bitcast(value, form) for value in three[1:])]
        halves.append(call(builder, name, three[0].type, given))
    return _joined(builder, *halves)


def dot(builder: Builder, total: Value, weights: Value, row: Value) -> Value:
    """Add to `total` the products of 16 x 4 unsigned bytes and 4 signed ones, in 32 bits."""
    if INSTRUCTIONS == "vnni512":
        bytes_64 = ir.VectorType(_I8, 64)
        given = [total, builder.bitcast(weights, bytes_64), builder.bitcast(row, bytes_64)]
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", _LANES_I32, given)
    if INSTRUCTIONS == "vnni256":
        name = "llvm.x86.avx512.vpdpbusd.256"
        return _in_halves(builder, name, _I8, total, weights, row)
    return _by_words(builder, total, weights, row)


def _by_words(builder: Builder, total: Value, weights: Value, row: Value) -> Value:
    """The same with 16-bit numbers: even bytes and odd bytes, products of neighbours added."""
    words = ir.VectorType(_I16, 2 * PANEL)
    eight = constant(words, 8)
    unsigned, signed = builder.bitcast(weights, words), builder.bitcast(row, words)
    even = (
        builder.and_(unsigned, constant(words, 255)),
        builder.ashr(builder.shl(signed, eight), eight),
    )
    odd = builder.lshr(unsigned, eight), builder.ashr(signed, eight)
    for some, others in (even, odd):
        total = builder.add(total, _neighbours(builder, some, others))
    return total


def _neighbours(builder: Builder, some: Value, others: Value) -> Value:
    if INSTRUCTIONS == "avx2":
        halves = []
        for first in (0, 16):
            pair = [_cut(builder, value, first, first + 16) for value in (some, others)]
            form = ir.VectorType(_I32, 8)
            halves.append(call(builder, "llvm.x86.avx2.pmadd.wd", form, pair))
        return _joined(builder, *halves)
    wide = ir.VectorType(_I32, 2 * PANEL)
    products = builder.mul(builder.sext(some, wide), builder.sext(others, wide))
    nothing = ir.Constant(wide, ir.Undefined)
    evens = ir.Constant(_LANES_I32, list(range(0, 2 * PANEL, 2)))
    odds = ir.Constant(_LANES_I32, list(range(1, 2 * PANEL, 2)))
    return builder.add(
        builder.shuffle_vector(products, nothing, evens),
        builder.shuffle_vector(products, nothing, odds),
    )


class _Emitter:
    """Writes one tile. Addresses and sizes are 64-bit values; see `make_tile` for their order."""

    def __init__(self, builder: Builder, arguments: Sequence[Value], bits: int, lines: int) -> None:
        self._b = builder
        self._bits, self._lines = bits, lines
        (
            self._codes, self._scales, self._rows, self._row_scales, self._row_starts,
            self._out, self._blocks, self._outs, self._next,
        ) = arguments  # fmt: skip

    def number(self, value: int) -> Value:
        return ir.Constant(ir.IntType(64), value)

    def plus(self, address: Value, times: Value, size: int) -> Value:
        return self._b.add(address, self._b.mul(times, self.number(size)))

    def emit(self, rows: int, panels: int) -> None:
        b = self._b
        totals = [
            [cgutils.alloca_once_value(b, constant(_LANES_F32, 0.0)) for _ in range(panels)]
            for _ in range(rows)
        ]
        with cgutils.for_range(b, self._blocks) as loop:
            self._block(loop.index, totals, rows, panels)
        for r in range(rows):
            start = self.plus(self._out, b.mul(self._outs, self.number(r)), 4)
            for p in range(panels):
                address = b.add(start, self.number(p * PANEL * 4))
                pointer = b.inttoptr(address, _LANES_F32.as_pointer())
                b.store(b.load(totals[r][p]), pointer, align=4)

    def _block(self, block: Value, totals: list[list[Value]], rows: int, panels: int) -> None:
        b = self._b
        size = BLOCK_BYTES[self._bits]
        places = [b.add(b.mul(self._blocks, self.number(r)), block) for r in range(rows)]
        starts = [load(b, self.plus(self._row_starts, at, 4), _I32, 4) for at in places]
        sums = [[splat(b, start, PANEL)] * panels for start in starts]
        codes = [
            self.plus(
                self.plus(self._codes, b.mul(self._blocks, self.number(p)), size), block, size
            )
            for p in range(panels)
        ]
        soon = self.plus(self._next, block, LINE * self._lines)
        for line in range(self._lines):
            fetch(b, b.add(soon, self.number(LINE * line)), NEAREST)
        bytes_of = [self.plus(self._rows, at, 32) for at in places]
        for load_at, groups in self._groups():
            held = [load(b, b.add(start, self.number(load_at)), _LANES_I32, 64) for start in codes]
            for group, shift in groups:
                weights = [self._nibbles(value, shift) for value in held]
                for r in range(rows):
                    at = b.add(bytes_of[r], self.number(4 * group))
                    row = splat(b, load(b, at, _I32, 4), PANEL)
                    for p in range(panels):
                        sums[r][p] = dot(b, sums[r][p], weights[p], row)
        for p in range(panels):
            at = self.plus(self._scales, b.mul(self._blocks, self.number(p)), SCALE_BYTES)
            scale = self._scale(self.plus(at, block, SCALE_BYTES))
            for r in range(rows):
                by = load(b, self.plus(self._row_scales, places[r], 4), _FLOAT, 4)
                product = b.fmul(b.sitofp(sums[r][p], _LANES_F32), scale)
                product = b.fmul(product, splat(b, by, PANEL))
                b.store(b.fadd(b.load(totals[r][p]), product), totals[r][p])

    def _groups(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """(place of 64 bytes, the groups of 4 numbers in it and their shifts)."""
        if self._bits == 8:
            return [(64 * group, [(group, 0)]) for group in range(8)]
        return [(64 * pair, [(pair, 0), (pair + 4, 4)]) for pair in range(4)]

    def _nibbles(self, value: Value, shift: int) -> Value:
        if self._bits == 8:
            return value
        if shift:
            value = self._b.lshr(value, constant(_LANES_I32, shift))
        return self._b.and_(value, constant(_LANES_I32, 0x0F0F0F0F))

    def _scale(self, address: Value) -> Value:
        halves = load(self._b, address, ir.VectorType(_I16, PANEL), 32)
        wide = self._b.zext(halves, _LANES_I32)
        return self._b.bitcast(self._b.shl(wide, constant(_LANES_I32, 16)), _LANES_F32)


def make_tile(rows: int, panels: int, bits: int, lines: int = 0) -> Callable[..., None]:
    """A function for numba's code: tile(codes, scales, rows, row scales, row starts, out, blocks,
    outs, soon), all integers. `outs` is the width of a row of the output; panels lie behind each
    other.

    Each block asks for so many cache `lines` of what lies at `soon` and a later tile reads: many
    rows compute too long for the processor to look that far ahead by itself.

    A row's start is -128 (int4: -8) times the sum of its block: what unsigned codes add too much.
    """

    @emitted
    def tile(
        _context: Any, codes: Any, scales: Any, given: Any, by: Any, starts: Any, out: Any,
        blocks: Any, outs: Any, soon: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(codes, scales, given, by, starts, out, blocks, outs, soon)

        def emit(context: Any, builder: Builder, _signature: Any, arguments: Any) -> Value:
            _Emitter(builder, arguments, bits, lines).emit(rows, panels)
            return context.get_dummy_value()

        return signature, emit

    return tile
