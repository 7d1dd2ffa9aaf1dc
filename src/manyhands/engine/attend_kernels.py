"""The compiled kernel of attention: its units, each some queries that look at the same keys.

Compiled by numba like `block_kernels`, which shares them out. A query's bits never depend on the
queries beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from manyhands.engine.attend_tile import make_attention
from manyhands.engine.crew import (
    ARGUMENTS,
    claimed,
    close_to_all,
    figure,
    finished,
    open_to_all,
)
from manyhands.engine.native import native, read, read_float, write

_ATTEND_1, _ATTEND_2, _ATTEND_4 = (make_attention(rows, False) for rows in (1, 2, 4))
_HALVED_1, _HALVED_2, _HALVED_4 = (make_attention(rows, True) for rows in (1, 2, 4))

_NO_SINKS = (np.float32(-np.inf),) * 4

PART = 11
"""Figures of a part of an attention: see `open_attention`."""

PART_BYTES = 8 * PART

UNIT_PAIRS = 8192
"""About how many pairs of query and key one unit computes."""

LEAST_ROWS = 4
"""Queries that a unit has at least, where there are so many: as many share a key that is read."""


@native
def open_attention(
    state: int, threads: int, halved: bool, queries: int, query_row: int, query_head: int, out: int,
    parts: int, count: int, heads: int, kv_heads: int, width: int, value_width: int, scale: float,
    sinks: int, window: int,
) -> tuple[int, int]:  # fmt: skip
    """Prepare attention of queries [N, H, W] into out [N, H, V], both float32, by address.

    `query_row` and `query_head` are bytes from row to row and from head to head. `halved`: keys and
    values are bfloat16, and every whole 32 numbers of a query have the even ones first.

    Each of `count` `parts`, int64 [count, PART], is a session: its first query, its queries, the
    first one's position; of keys and then of values address, bytes from head to head, bytes from
    token to token; how many keys, if queries see those behind them too, else 0; and room for a
    figure. `sinks` and `window` 0 are none. All must stay where they are until it is done.

    The sessions with the most keys come first, best: then no thread has a long unit left when the
    others have none. Each thread asks for the keys of the unit that will be its next one if all
    `threads` take turns.
    """
    number = close_to_all(state)
    is_one = kv_heads == 1 and heads % LEAST_ROWS == 0
    if is_one:  # as several, so that threads share it
        kv_heads = heads // LEAST_ROWS
    groups, seen = heads // kv_heads, 0
    for part in range(count):
        place = parts + part * PART_BYTES
        seen = max(seen, read(place + 8) + read(place + 16))
        if is_one:
            write(place + 32, 0)
            write(place + 56, 0)
    seen = min(seen, window) if window > 0 else seen
    unit_rows = max(-(-LEAST_ROWS // groups), UNIT_PAIRS // (seen * groups))
    units = 0
    for part in range(count):
        place = parts + part * PART_BYTES
        write(place + 80, units)  # its first one
        units += kv_heads * -(-read(place + 8) // unit_rows)
    figure(state, 0, -1 if halved else 0)
    figure(state, 1, queries)
    figure(state, 2, query_row)
    figure(state, 3, query_head)
    figure(state, 4, out)
    figure(state, 5, parts)
    figure(state, 6, count)
    figure(state, 7, int(np.float32(scale).view(np.int32)))
    figure(state, 8, sinks)
    figure(state, 9, heads)
    figure(state, 10, kv_heads)
    figure(state, 11, width)
    figure(state, 12, value_width)
    figure(state, 13, window)
    figure(state, 14, unit_rows)
    figure(state, 15, threads)
    open_to_all(state, number, units)
    return number, units


@native
def _pushed(four: Any, last: Any) -> Any:
    """Four entries without the first one, and a last one."""
    return four[1], four[2], four[3], last


@native
def _attend_rows(
    halved: bool, rows: int, query: Any, out: Any, count: Any, sink: Any, width: int, keys: int,
    key_row: int, values: int, value_row: int, value_width: int, scale: Any, soon: int,
) -> None:  # fmt: skip
    """Attention of the last 1, 2 or 4 of four queries that share keys."""
    rest = (width, keys, key_row, values, value_row, value_width, scale, soon)
    if rows == 4:
        if halved:
            _HALVED_4(query, out, count, sink, *rest)
        else:
            _ATTEND_4(query, out, count, sink, *rest)
    elif rows == 2:
        if halved:
            _HALVED_2(query[2:], out[2:], count[2:], sink[2:], *rest)
        else:
            _ATTEND_2(query[2:], out[2:], count[2:], sink[2:], *rest)
    elif halved:
        _HALVED_1(query[3:], out[3:], count[3:], sink[3:], *rest)
    else:
        _ATTEND_1(query[3:], out[3:], count[3:], sink[3:], *rest)


@native
def _keys_of(unit: int, parts: int, part: int, last_part: int, kv_heads: int) -> int:
    """Where the keys of a unit lie that is no part's before `part`; of none, anywhere."""
    place = parts + part * PART_BYTES
    while part < last_part and read(place + 8 * (PART + 10)) <= unit:
        part, place = part + 1, place + PART_BYTES
    return read(place + 24) + (unit - read(place + 80)) % kv_heads * read(place + 32)


@native
def share_attention(state: int, number: int, halved: bool) -> None:
    """Units of attention: each some queries of all heads that look at the same keys."""
    at = state + 8 * (ARGUMENTS + 1)
    queries, query_row, query_head = read(at), read(at + 8), read(at + 16)
    out, parts, last_part = read(at + 24), read(at + 32), read(at + 40) - 1
    scale, sinks = np.int32(read(at + 48)).view(np.float32), read(at + 56)
    heads, kv_heads, width = read(at + 64), read(at + 72), read(at + 80)
    value_width, window, unit_rows = read(at + 88), read(at + 96), read(at + 104)
    threads, groups, part, place = read(at + 112), heads // kv_heads, 0, parts
    while True:
        unit = claimed(state, number)
        if unit < 0:
            return
        soon = _keys_of(unit + threads, parts, part, last_part, kv_heads)
        while part < last_part and read(place + 8 * (PART + 10)) <= unit:
            part, place = part + 1, place + 8 * PART
        begin, tokens, position = read(place), read(place + 8), read(place + 16)
        around = read(place + 72)
        unit -= read(place + 80)
        kv, token = unit % kv_heads, (unit // kv_heads) * unit_rows
        keys, key_row = read(place + 24) + kv * read(place + 32), read(place + 40)
        values, value_row = read(place + 48) + kv * read(place + 56), read(place + 64)
        row, last_row = token * groups, min(token + unit_rows, tokens) * groups
        while row < last_row:
            token, start, most = row // groups, 0, last_row - row
            if window > 0:  # another token's keys begin elsewhere
                start = max(0, position + token + 1 - window)
                most = min(most, groups - row % groups)
            rows = 4 if most >= 4 else (2 if most >= 2 else 1)
            query, to, count, sink = (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), _NO_SINKS
            for one in range(rows):
                token, head = (row + one) // groups, kv * groups + (row + one) % groups
                from_row = queries + (begin + token) * query_row + head * query_head
                to_row = out + 4 * value_width * ((begin + token) * heads + head)
                query, to = _pushed(query, from_row), _pushed(to, to_row)
                end = position + token + 1
                if around > 0:
                    end = min(around, end + window - 1) if window > 0 else around
                count = _pushed(count, end - start)
                if sinks != 0:
                    sink = _pushed(sink, read_float(sinks + 4 * head))
            _attend_rows(
                halved, rows, query, to, count, sink, width, keys + start * key_row, key_row,
                values + start * value_row, value_row, value_width, scale, soon,
            )  # fmt: skip
            row += rows
        finished(state)
