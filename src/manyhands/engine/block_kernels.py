"""The compiled kernels: rows to blocks of int8, their products with integer matrices, attention.

Compiled by numba for this processor, once, and kept on disk. Products have the
same bits as `block_reference`. A row's bits never depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from manyhands.engine.attend_tile import make_attention
from manyhands.engine.block_tile import BLOCK_BYTES, PANEL, SCALE_BYTES, make_tile
from manyhands.engine.crew import (
    ARGUMENTS,
    claimed,
    close_to_all,
    figure,
    finished,
    open_to_all,
)
from manyhands.engine.native import native, read, read_float

_ONE_8, _ONE_4 = make_tile(1, 1, 8), make_tile(1, 1, 4)
_MANY_8, _MANY_4 = make_tile(4, 2, 8), make_tile(4, 2, 4)
_HALF_8, _HALF_4 = make_tile(4, 2, 8, 8), make_tile(4, 2, 4, 4)
_ALL_8, _ALL_4 = make_tile(4, 2, 8, 16), make_tile(4, 2, 4, 8)
"""One row reads a panel as a stream. Four rows and two panels fill the registers, and ask for half
of the next two panels, or all of them."""

_ATTEND_1, _ATTEND_2, _ATTEND_4 = (make_attention(rows, False) for rows in (1, 2, 4))
_HALVED_1, _HALVED_2, _HALVED_4 = (make_attention(rows, True) for rows in (1, 2, 4))

_NO_SINKS = (np.float32(-np.inf),) * 4

PART = 11
"""Figures of a part of an attention: see `open_attention`."""

_BYTES_8, _BYTES_4 = BLOCK_BYTES[8], BLOCK_BYTES[4]


@native
def _quantise_rows(rows: Any, start: int, codes: Any, scales: Any, starts: Any) -> None:
    """Rows [N, in] float32 to codes int8 [N, blocks * 32], scales float32 [N, blocks], starts."""
    width = rows.shape[1]
    bits = rows.view(np.int32)
    for r in range(rows.shape[0]):
        for b in range(scales.shape[1]):
            first, last = 32 * b, min(32 * b + 32, width)
            most = np.int32(0)
            for k in range(first, last):  # as integers: the order is the same, and it is a vector
                most = max(most, bits[r, k] & np.int32(0x7FFFFFFF))
            total = np.int32(0)
            if most >= np.int32(0x7F800000):  # NaN or infinity: the whole block is NaN
                scales[r, b] = np.nan
                codes[r, first : first + 32] = 0
            else:
                largest = np.int32(most).view(np.float32)
                scales[r, b] = largest / np.float32(127)
                by = np.float32(0)
                if largest >= np.float32(1e-30):
                    by = np.float32(127) / largest
                for k in range(first, last):
                    code = np.int32(np.rint(rows[r, k] * by))
                    codes[r, k] = code
                    total += code
                codes[r, last : first + 32] = 0
            starts[r, b] = start * total


@native
def open_product(
    state: int, bits: int, held: int, held_scales: int, panels: int, unit_rows: int,
    unit_panels: int, rows: Any, out: Any, codes: Any, scales: Any, starts: Any,
) -> tuple[int, int]:  # fmt: skip
    """Prepare rows [N, in] times a matrix; the job's number and units. `out` is [N, panels * 16].

    `codes`, `scales` and `starts` are room for what the rows become.
    """
    number = close_to_all(state)
    _quantise_rows(rows, -128 if bits == 8 else -8, codes, scales, starts)
    count = rows.shape[0]
    figure(state, 0, bits)
    figure(state, 1, held)
    figure(state, 2, held_scales)
    figure(state, 3, codes.ctypes.data)
    figure(state, 4, scales.ctypes.data)
    figure(state, 5, starts.ctypes.data)
    figure(state, 6, out.ctypes.data)
    figure(state, 7, scales.shape[1])
    figure(state, 8, panels)
    figure(state, 9, count)
    figure(state, 10, unit_rows)
    figure(state, 11, unit_panels)
    units = -(-panels // unit_panels) * -(-count // unit_rows)
    open_to_all(state, number, units)
    return number, units


@native
def open_attention(
    state: int, halved: bool, queries: Any, out: Any, parts: Any, kv_heads: int, scale: Any,
    sinks: Any, window: int, unit_rows: int,
) -> tuple[int, int]:  # fmt: skip
    """Prepare attention of queries [N, H, W] into out [N, H, V]: see row_attention.

    `parts` [P, PART] int64 has of each part its first query, its queries, the first one's position;
    of keys and then of values address, bytes from head to head, bytes from token to token; how many
    keys, if queries see those behind them too, else 0; and room for a figure. `sinks` of no
    elements are none, `window` 0 is none.
    """
    number = close_to_all(state)
    units = 0
    for part in range(parts.shape[0]):
        parts[part, 10] = units  # its first one
        units += kv_heads * -(-parts[part, 1] // unit_rows)
    figure(state, 0, -1 if halved else 0)
    figure(state, 1, queries.ctypes.data)
    figure(state, 2, queries.strides[0])
    figure(state, 3, queries.strides[1])
    figure(state, 4, out.ctypes.data)
    figure(state, 5, parts.ctypes.data)
    figure(state, 6, parts.shape[0])
    figure(state, 7, scale.ctypes.data)
    figure(state, 8, sinks.ctypes.data if sinks.size else 0)
    figure(state, 9, queries.shape[1])
    figure(state, 10, kv_heads)
    figure(state, 11, queries.shape[2])
    figure(state, 12, out.shape[2])
    figure(state, 13, window)
    figure(state, 14, unit_rows)
    open_to_all(state, number, units)
    return number, units


@native
def _one_row(bits: int, given: Any) -> None:
    if bits == 8:
        _ONE_8(*given, 0)
    else:
        _ONE_4(*given, 0)


@native
def _four_rows(bits: int, part: int, given: Any, soon: int) -> None:
    """Ask meanwhile for all (1), half (2) or nothing (0) of as much as is read, from `soon` on."""
    if bits == 8:
        if part == 0:
            _MANY_8(*given, soon)
        elif part == 1:
            _ALL_8(*given, soon)
        else:
            _HALF_8(*given, soon)
    elif part == 0:
        _MANY_4(*given, soon)
    elif part == 1:
        _ALL_4(*given, soon)
    else:
        _HALF_4(*given, soon)


@native
def _multiply(
    bits: int, codes: int, scales: int, rows: int, by: int, starts: int, out: int, blocks: int,
    outs: int, panel: int, last_panel: int, row: int, last_row: int,
) -> None:  # fmt: skip
    size = blocks * (_BYTES_8 if bits == 8 else _BYTES_4)  # of a panel
    parts = 1 if last_row - row < 8 else 2
    while panel < last_panel:
        width = 2 if panel + 2 <= last_panel else 1
        held, scale = codes + panel * size, scales + panel * blocks * SCALE_BYTES
        r = row
        while r < last_row:
            given = rows + r * blocks * 32, by + r * blocks * 4, starts + r * blocks * 4
            to = out + (r * outs + panel * PANEL) * 4
            if r + 4 <= last_row and width == 2:
                turn = (r - row) // 4
                part = parts if turn < parts else 0
                soon = held + 2 * size + turn * size  # of the two panels behind these
                _four_rows(bits, part, (held, scale, *given, to, blocks, outs), soon)
                r += 4
                continue
            for p in range(width):
                panel_scale = scale + p * blocks * SCALE_BYTES
                lies = held + p * size, panel_scale, *given, to + p * PANEL * 4, blocks, outs
                _one_row(bits, lies)
            r += 1
        panel += width


@native
def _share_product(state: int, number: int, bits: int) -> None:
    """Units of a product: each some rows times some panels."""
    at = state + 8 * (ARGUMENTS + 1)
    codes, scales = read(at), read(at + 8)
    rows, by, starts, out = read(at + 16), read(at + 24), read(at + 32), read(at + 40)
    blocks, panels, count = read(at + 48), read(at + 56), read(at + 64)
    unit_rows, unit_panels = read(at + 72), read(at + 80)
    outs, across = panels * PANEL, -(-panels // unit_panels)
    while True:
        unit = claimed(state, number)
        if unit < 0:
            return
        row, panel = (unit // across) * unit_rows, (unit % across) * unit_panels
        last_row, last_panel = min(row + unit_rows, count), min(panel + unit_panels, panels)
        _multiply(
            bits, codes, scales, rows, by, starts, out, blocks, outs, panel, last_panel, row,
            last_row,
        )  # fmt: skip
        finished(state)


@native
def _pushed(four: Any, last: Any) -> Any:
    """Four entries without the first one, and a last one."""
    return four[1], four[2], four[3], last


@native
def _attend_rows(
    halved: bool, rows: int, query: Any, out: Any, count: Any, sink: Any, width: int, keys: int,
    key_row: int, values: int, value_row: int, value_width: int, scale: Any,
) -> None:  # fmt: skip
    """Attention of the last 1, 2 or 4 of four queries that share keys."""
    rest = (width, keys, key_row, values, value_row, value_width, scale)
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
def _share_attention(state: int, number: int, halved: bool) -> None:
    """Units of attention: each some queries of all heads that look at the same keys."""
    at = state + 8 * (ARGUMENTS + 1)
    queries, query_row, query_head = read(at), read(at + 8), read(at + 16)
    out, parts, last_part = read(at + 24), read(at + 32), read(at + 40) - 1
    scale, sinks = read_float(read(at + 48)), read(at + 56)
    heads, kv_heads, width = read(at + 64), read(at + 72), read(at + 80)
    value_width, window, unit_rows = read(at + 88), read(at + 96), read(at + 104)
    groups, part, place = heads // kv_heads, 0, parts
    while True:
        unit = claimed(state, number)
        if unit < 0:
            return
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
                values + start * value_row, value_row, value_width, scale,
            )  # fmt: skip
            row += rows
        finished(state)


@native
def share(state: int, number: int) -> None:
    """Do units of a job while there are any; its first figure is bits, or for attention less."""
    kind = read(state + 8 * ARGUMENTS)
    if kind <= 0:
        _share_attention(state, number, kind < 0)
    else:
        _share_product(state, number, kind)
