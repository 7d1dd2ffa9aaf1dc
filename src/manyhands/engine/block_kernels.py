"""The compiled kernels: rows to blocks of int8, their products with integer matrices, attention.

Compiled by numba for this processor, once, and kept on disk. Products have the
same bits as `block_reference`. A row's bits never depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from manyhands.engine.attend_tile import attend_one
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

_ONE_8, _MANY_8 = make_tile(1, 1, 8), make_tile(4, 2, 8)
_ONE_4, _MANY_4 = make_tile(1, 1, 4), make_tile(4, 2, 4)
"""One row reads a panel as a stream; four rows and two panels fill the registers."""

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
    state: int, queries: Any, keys: Any, values: Any, out: Any, scale: Any, sinks: Any,
    position: int, window: int, is_causal: bool, unit_rows: int,
) -> tuple[int, int]:  # fmt: skip
    """Prepare attention: see row_attention. `sinks` of no elements are none, `window` 0 is none."""
    number = close_to_all(state)
    figure(state, 0, 0)
    figure(state, 1, queries.ctypes.data)
    figure(state, 2, queries.strides[0])
    figure(state, 3, queries.strides[1])
    figure(state, 4, keys.ctypes.data)
    figure(state, 5, keys.strides[0])
    figure(state, 6, keys.strides[1])
    figure(state, 7, values.ctypes.data)
    figure(state, 8, values.strides[0])
    figure(state, 9, values.strides[1])
    figure(state, 10, out.ctypes.data)
    figure(state, 11, scale.ctypes.data)
    figure(state, 12, sinks.ctypes.data if sinks.size else 0)
    figure(state, 13, position)
    figure(state, 14, queries.shape[0])
    figure(state, 15, queries.shape[1])
    figure(state, 16, keys.shape[0])
    figure(state, 17, queries.shape[2])
    figure(state, 18, values.shape[2])
    figure(state, 19, window)
    figure(state, 20, unit_rows)
    figure(state, 21, 0 if is_causal else keys.shape[1])
    units = keys.shape[0] * -(-queries.shape[0] // unit_rows)
    open_to_all(state, number, units)
    return number, units


@native
def _multiply_8(
    codes: int, scales: int, rows: int, by: int, starts: int, out: int, blocks: int, outs: int,
    panel: int, last_panel: int, row: int, last_row: int,
) -> None:  # fmt: skip
    while panel < last_panel:
        width = 2 if panel + 2 <= last_panel else 1
        held, scale = codes + panel * blocks * _BYTES_8, scales + panel * blocks * SCALE_BYTES
        r = row
        while r < last_row:
            given, factors, begins = (
                rows + r * blocks * 32,
                by + r * blocks * 4,
                starts + r * blocks * 4,
            )
            to = out + (r * outs + panel * PANEL) * 4
            if r + 4 <= last_row and width == 2:
                _MANY_8(held, scale, given, factors, begins, to, blocks, outs)
                r += 4
                continue
            for p in range(width):
                _ONE_8(
                    held + p * blocks * _BYTES_8, scale + p * blocks * SCALE_BYTES, given, factors,
                    begins, to + p * PANEL * 4, blocks, outs,
                )  # fmt: skip
            r += 1
        panel += width


@native
def _multiply_4(
    codes: int, scales: int, rows: int, by: int, starts: int, out: int, blocks: int, outs: int,
    panel: int, last_panel: int, row: int, last_row: int,
) -> None:  # fmt: skip
    while panel < last_panel:
        width = 2 if panel + 2 <= last_panel else 1
        held, scale = codes + panel * blocks * _BYTES_4, scales + panel * blocks * SCALE_BYTES
        r = row
        while r < last_row:
            given, factors, begins = (
                rows + r * blocks * 32,
                by + r * blocks * 4,
                starts + r * blocks * 4,
            )
            to = out + (r * outs + panel * PANEL) * 4
            if r + 4 <= last_row and width == 2:
                _MANY_4(held, scale, given, factors, begins, to, blocks, outs)
                r += 4
                continue
            for p in range(width):
                _ONE_4(
                    held + p * blocks * _BYTES_4, scale + p * blocks * SCALE_BYTES, given, factors,
                    begins, to + p * PANEL * 4, blocks, outs,
                )  # fmt: skip
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
        if bits == 8:
            _multiply_8(
                codes, scales, rows, by, starts, out, blocks, outs, panel, last_panel, row, last_row
            )
        else:
            _multiply_4(
                codes, scales, rows, by, starts, out, blocks, outs, panel, last_panel, row, last_row
            )
        finished(state)


@native
def _share_attention(state: int, number: int) -> None:
    """Units of attention: each some queries of all heads that look at the same keys."""
    at = state + 8 * (ARGUMENTS + 1)
    queries, query_row, query_head = read(at), read(at + 8), read(at + 16)
    keys, key_head, key_row = read(at + 24), read(at + 32), read(at + 40)
    values, value_head, value_row = read(at + 48), read(at + 56), read(at + 64)
    out, scale, sinks = read(at + 72), read_float(read(at + 80)), read(at + 88)
    position, tokens, heads, kv_heads = (
        read(at + 96),
        read(at + 104),
        read(at + 112),
        read(at + 120),
    )
    width, value_width = read(at + 128), read(at + 136)
    window, unit_rows, around = read(at + 144), read(at + 152), read(at + 160)
    groups = heads // kv_heads
    while True:
        unit = claimed(state, number)
        if unit < 0:
            return
        kv, first = unit % kv_heads, (unit // kv_heads) * unit_rows
        for token in range(first, min(first + unit_rows, tokens)):
            end = position + token + 1
            start = max(0, end - window) if window > 0 else 0
            if around > 0:  # so many keys there are, and a query sees those behind it too
                end = min(around, end + window - 1) if window > 0 else around
            for head in range(kv * groups, (kv + 1) * groups):
                sink = read_float(sinks + 4 * head) if sinks != 0 else np.float32(-np.inf)
                attend_one(
                    queries + token * query_row + head * query_head, width,
                    keys + kv * key_head + start * key_row,
                    values + kv * value_head + start * value_row, key_row, value_row, end - start,
                    value_width, out + 4 * value_width * (token * heads + head), scale, sink,
                )  # fmt: skip
        finished(state)


@native
def share(state: int, number: int) -> None:
    """Do units of a job while there are any; its first figure is 8 or 4 (bits), or 0: attention."""
    kind = read(state + 8 * ARGUMENTS)
    if kind == 0:
        _share_attention(state, number)
    else:
        _share_product(state, number, kind)
