"""The compiled kernels of single rows: what lies between the products of a block.

Compiled by numba like `block_kernels`. A row's bits never depend on the rows beside it.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from manyhands.engine.native import at, native, read
from manyhands.engine.row_tile import make_gate, make_norm

_NORM, _NORM_HALVED = make_norm(False), make_norm(True)
_GATE = make_gate()


@native
def norm_rows(
    halved: bool, rows: int, weight: int, out: int, count: int, width: int, least: float,
    more: float,
) -> None:  # fmt: skip
    """Root-mean-square norm of contiguous rows [count, width] into `out`, all by address.

    float32, or bfloat16 where `halved`; widths are multiples of 16. `weight` 0 is none, to any
    other `more` is added.
    """
    size = width * (2 if halved else 4)
    for row in range(count):
        given = rows + row * size, weight, out + row * size, width, np.float32(least)
        if halved:
            _NORM_HALVED(*given, np.float32(more))
        else:
            _NORM(*given, np.float32(more))


@native
def gate_rows(rows: int, out: int, count: int, width: int) -> None:
    """silu(gate) * up of contiguous float32 rows [count, 2 * width], gate beside up.

    Into `out` [count, width], all by address; widths are multiples of 16.
    """
    for row in range(count):
        gate = rows + row * width * 8
        _GATE(gate, gate + width * 4, out + row * width * 4, width)


@native
def _widen(halved: bool, source: int, target: int, count: int) -> None:
    """Numbers as float32, of bfloat16 where `halved`."""
    if halved:
        bits = carray(at(source), (count,), np.uint16)
        wide = carray(at(target), (count,), np.uint32)
        for i in range(count):
            wide[i] = np.uint32(bits[i]) << np.uint32(16)
    else:
        numbers = carray(at(source), (count,), np.float32)
        same = carray(at(target), (count,), np.float32)
        for i in range(count):
            same[i] = numbers[i]


@native
def _halve(source: int, target: int, count: int) -> None:
    """Numbers of float32 as the nearest of bfloat16, ties to even."""
    wide = carray(at(source), (count,), np.uint32)
    bits = carray(at(target), (count,), np.uint16)
    for i in range(count):
        near = wide[i] + np.uint32(0x7FFF) + ((wide[i] >> np.uint32(16)) & np.uint32(1))
        is_nan = (wide[i] & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        bits[i] = np.uint16(0x7FC0) if is_nan else np.uint16(near >> np.uint32(16))


@native
def _turn(row: int, turns: int, pairs: int, interleaved: bool) -> None:
    """Rotate pairs of a head in place; `turns` are as many cosines, then sines."""
    cos = carray(at(turns), (pairs,), np.float32)
    sin = carray(at(turns + 4 * pairs), (pairs,), np.float32)
    if interleaved:
        beside = carray(at(row), (pairs, 2), np.float32)
        for i in range(pairs):
            first, second = beside[i, 0], beside[i, 1]
            beside[i, 0] = first * cos[i] - second * sin[i]
            beside[i, 1] = second * cos[i] + first * sin[i]
    else:
        low = carray(at(row), (pairs,), np.float32)
        high = carray(at(row + 4 * pairs), (pairs,), np.float32)
        for i in range(pairs):
            first, second = low[i], high[i]
            low[i] = first * cos[i] - second * sin[i]
            high[i] = second * cos[i] + first * sin[i]


@native
def _evens_first(source: int, target: int, width: int) -> None:
    """A copy with the even ones of every whole 32 numbers first."""
    whole, rest = width // 32, width % 32
    given = carray(at(source), (whole, 16, 2), np.float32)
    turned = carray(at(target), (whole, 2, 16), np.float32)
    for some in range(whole):
        for i in range(16):
            turned[some, 0, i] = given[some, i, 0]
            turned[some, 1, i] = given[some, i, 1]
    _widen(False, source + 128 * whole, target + 128 * whole, rest)


@native
def keep_rows(
    halved: bool, rows: int, turns: int, parts: int, count: int, room: int, heads: int,
    kv_heads: int, width: int, value_width: int, pairs: int, interleaved: bool,
) -> None:  # fmt: skip
    """Rows of queries, keys and values beside each other: keys and values are kept, as bfloat16.

    `rows` are float32, or bfloat16 where `halved`, [N, (H + K) * W + K * V]; `turns` float32
    [N, 2, pairs], where there are pairs. Into `room` go the queries as `open_attention` takes them,
    [N, H, W]; behind them are max(W, V) numbers of room more. `parts` as there.
    """
    all_rows = 0
    for part in range(count):
        lies = parts + 88 * part
        all_rows = max(all_rows, read(lies) + read(lies + 8))
    spare = room + 4 * width * heads * all_rows  # behind all queries
    size = 2 if halved else 4
    row_size = size * ((heads + kv_heads) * width + kv_heads * value_width)
    for part in range(count):
        lies = parts + 88 * part
        first, tokens, position = read(lies), read(lies + 8), read(lies + 16)
        for row in range(first, first + tokens):
            source, token = rows + row * row_size, position + row - first
            for head in range(heads + kv_heads):
                _widen(halved, source, spare, width)
                source += size * width
                if pairs > 0:
                    _turn(spare, turns + 8 * pairs * row, pairs, interleaved)
                if head < heads:
                    _evens_first(spare, room + 4 * width * (row * heads + head), width)
                else:
                    to = (
                        read(lies + 24) + (head - heads) * read(lies + 32) + token * read(lies + 40)
                    )
                    _halve(spare, to, width)
            for head in range(kv_heads):
                to = read(lies + 48) + head * read(lies + 56) + token * read(lies + 64)
                _widen(halved, source, spare, value_width)
                _halve(spare, to, value_width)
                source += size * value_width
