"""The compiled kernels: rows to blocks of int8, their products with integer matrices, attention.

Compiled by numba for this processor, once, and kept on disk. Products have the
same bits as `block_reference`. A row's bits never depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from manyhands.engine.attend_kernels import open_attention, share_attention
from manyhands.engine.block_tile import BLOCK_BYTES, PANEL, SCALE_BYTES, make_tile
from manyhands.engine.crew import (
    ARGUMENTS,
    LOOKS,
    claimed,
    close_to_all,
    figure,
    finished,
    is_attended,
    is_done,
    open_to_all,
)
from manyhands.engine.native import at, native, read
from manyhands.engine.row_kernels import keep_rows
from manyhands.engine.row_tile import make_codes

_ONE_8, _ONE_4 = make_tile(1, 1, 8), make_tile(1, 1, 4)
_FOUR_8, _FOUR_4 = make_tile(4, 1, 8, 8), make_tile(4, 1, 4, 4)
_EIGHT_8, _EIGHT_4 = make_tile(8, 1, 8, 8), make_tile(8, 1, 4, 4)
_MANY_8, _MANY_4 = make_tile(4, 2, 8), make_tile(4, 2, 4)
"""One row reads a panel as a stream. The first four or eight of more rows read it once, and ask
for the next one meanwhile; all others find it in the cache, two panels at a time."""

_CODES = make_codes()

FEW_ROWS = 32
"""So many rows take about as long as their matrix is read: a thread takes its next unit before it
does one, to ask for what that reads. Of more rows the last units count more."""

_BYTES_8, _BYTES_4 = BLOCK_BYTES[8], BLOCK_BYTES[4]


@native
def _quantise_rows(
    rows: int, count: int, width: int, times: int, codes: int, scales: int, starts: int
) -> None:
    """Rows [N, in] float32 to codes int8 [N, blocks * 32], scales float32 [N, blocks], starts.

    All by address; what is behind the last number of a row is 0.
    """
    whole, rest, blocks = width // 32, width % 32, -(-width // 32)
    last = np.zeros(32, np.float32)
    for row in range(count):
        first, at_block = rows + 4 * width * row, row * blocks
        for block in range(blocks):
            given = first + 128 * block
            if block == whole:
                last[:rest] = carray(at(given), (rest,), np.float32)
                given = int(np.int64(last.ctypes.data))  # unsigned, it would make floats of all
            place = at_block + block
            _CODES(given, codes + 32 * place, scales + 4 * place, starts + 4 * place, times)


@native
def _open_product(
    state: int, bits: int, held: int, held_scales: int, panels: int, unit_rows: int,
    unit_panels: int, rows: int, count: int, width: int, out: int, room: int,
) -> tuple[int, int]:  # fmt: skip
    """Prepare a product, see `multiply`; the job's number and units."""
    number = close_to_all(state)
    blocks = -(-width // 32)
    if count <= 8:  # nobody wants two panels at a time
        unit_panels = max(1, unit_panels // 2)
    scales, starts = room + count * blocks * 32, room + count * blocks * 36
    _quantise_rows(rows, count, width, -128 if bits == 8 else -8, room, scales, starts)
    figure(state, 0, bits)
    figure(state, 1, held)
    figure(state, 2, held_scales)
    figure(state, 3, room)
    figure(state, 4, scales)
    figure(state, 5, starts)
    figure(state, 6, out)
    figure(state, 7, blocks)
    figure(state, 8, panels)
    figure(state, 9, count)
    figure(state, 10, unit_rows)
    figure(state, 11, unit_panels)
    units = -(-panels // unit_panels) * -(-count // unit_rows)
    open_to_all(state, number, units)
    return number, units


@native
def _one_row(bits: int, given: Any) -> None:
    if bits == 8:
        _ONE_8(*given, 0)
    else:
        _ONE_4(*given, 0)


@native
def _first_rows(
    bits: int, count: int, codes: int, scales: int, rows: int, by: int, starts: int, out: int,
    blocks: int, outs: int, soon: int,
) -> None:  # fmt: skip
    """Four or eight rows times a panel, asking for the panel at `soon`."""
    given = codes, scales, rows, by, starts, out, blocks, outs, soon
    if bits == 8:
        if count == 8:
            _EIGHT_8(*given)
        else:
            _FOUR_8(*given)
    elif count == 8:
        _EIGHT_4(*given)
    else:
        _FOUR_4(*given)


@native
def _more_rows(bits: int, given: Any) -> None:
    """Four rows times two panels."""
    if bits == 8:
        _MANY_8(*given, 0)
    else:
        _MANY_4(*given, 0)


@native
def _multiply(
    bits: int, codes: int, scales: int, rows: int, by: int, starts: int, out: int, blocks: int,
    outs: int, panel: int, last_panel: int, row: int, last_row: int, following: int,
) -> None:  # fmt: skip
    """Some rows times some panels; `following` is the panel that is read after these."""
    size, scale_size = blocks * (_BYTES_8 if bits == 8 else _BYTES_4), blocks * SCALE_BYTES
    first = 8 if last_row - row >= 8 else (4 if last_row - row >= 4 else 0)
    while panel < last_panel:
        width = 2 if panel + 2 <= last_panel else 1
        held, scale = codes + panel * size, scales + panel * scale_size
        r = row
        if first > 0:
            for p in range(width):
                to = out + (r * outs + (panel + p) * PANEL) * 4
                after = panel + p + 1
                soon = codes + (after if after < last_panel else following) * size
                _first_rows(
                    bits, first, held + p * size, scale + p * scale_size, rows + r * blocks * 32,
                    by + r * blocks * 4, starts + r * blocks * 4, to, blocks, outs, soon,
                )  # fmt: skip
            r += first
        while r < last_row:
            given = rows + r * blocks * 32, by + r * blocks * 4, starts + r * blocks * 4
            to = out + (r * outs + panel * PANEL) * 4
            if r + 4 <= last_row and width == 2:
                _more_rows(bits, (held, scale, *given, to, blocks, outs))
                r += 4
                continue
            for p in range(width):
                panel_scale = scale + p * scale_size
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
    is_ahead = count <= FEW_ROWS
    unit = claimed(state, number)
    while unit >= 0:
        row, panel = (unit // across) * unit_rows, (unit % across) * unit_panels
        last_row, last_panel = min(row + unit_rows, count), min(panel + unit_panels, panels)
        next_unit = claimed(state, number) if is_ahead else unit + 1
        following = (max(next_unit, 0) % across) * unit_panels
        _multiply(
            bits, codes, scales, rows, by, starts, out, blocks, outs, panel, last_panel, row,
            last_row, following,
        )  # fmt: skip
        finished(state)
        unit = next_unit if is_ahead else claimed(state, number)


@native
def share(state: int, number: int) -> None:
    """Do units of a job while there are any; its first figure is bits, or for attention less."""
    kind = read(state + 8 * ARGUMENTS)
    if kind <= 0:
        share_attention(state, number, kind < 0)
    else:
        _share_product(state, number, kind)


@native
def _shared(state: int, number: int, units: int, threads: int) -> int:
    """Do the job that was opened with those who are awake; -1, or its number if it is not done."""
    if not is_attended(state, units, threads):
        return number
    share(state, number)
    return -1 if is_done(state, units, LOOKS) else number


@native
def multiply(
    state: int, threads: int, bits: int, held: int, held_scales: int, panels: int, unit_rows: int,
    unit_panels: int, rows: int, count: int, width: int, out: int, room: int,
) -> int:  # fmt: skip
    """Rows float32 [count, width] times a matrix into `out` [count, panels * 16], all by address.

    `room` is for what the rows become: ROW_BYTES for each of their blocks. -1 when it is done,
    else the job's number for `Crew.end`: somebody is asleep, or has a unit still.
    """
    number, units = _open_product(
        state, bits, held, held_scales, panels, unit_rows, unit_panels, rows, count, width, out,
        room,
    )  # fmt: skip
    return _shared(state, number, units, threads)


@native
def attend(
    state: int, threads: int, halved: bool, queries: int, query_row: int, query_head: int,
    out: int, parts: int, count: int, heads: int, kv_heads: int, width: int, value_width: int,
    scale: float, sinks: int, window: int,
) -> int:  # fmt: skip
    """Attention, see `open_attention`; what it returns is that of `multiply`."""
    number, units = open_attention(
        state, threads, halved, queries, query_row, query_head, out, parts, count, heads, kv_heads,
        width, value_width, scale, sinks, window,
    )  # fmt: skip
    return _shared(state, number, units, threads)


@native
def attend_rows(
    state: int, threads: int, halved: bool, rows: int, turns: int, parts: int, count: int,
    out: int, room: int, heads: int, kv_heads: int, width: int, value_width: int, pairs: int,
    interleaved: bool, scale: float, sinks: int, window: int,
) -> int:  # fmt: skip
    """Keep the keys and values of rows, see `keep_rows`, then let their queries attend to all."""
    keep_rows(
        halved, rows, turns, parts, count, room, heads, kv_heads, width, value_width, pairs,
        interleaved,
    )  # fmt: skip
    return attend(
        state, threads, True, room, 4 * width * heads, 4 * width, out, parts, count, heads,
        kv_heads, width, value_width, scale, sinks, window,
    )  # fmt: skip
