"""Attention whose bits, for each query, depend on the keys it sees and on nothing else.

BLAS and torch add up in another order for many queries than for one; here each query is computed by
itself: by a compiled kernel where numba is, else by numpy, one query at a time. The two differ in
the last bits, and carry different names. Knows nothing of sessions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.weight_blocks import nearest_bfloat16, widened
from manyhands.domain.model_spec import Attention
from manyhands.engine import numpy_math

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

Float32 = NDArray[np.float32]

_NONE = np.empty(0, np.float32)

LANES = 16
"""The kernel takes heads whose widths are multiples of this, of bfloat16 of twice as much."""

UNIT_PAIRS = 8192
"""About how many pairs of query and key one unit computes."""

LEAST_ROWS = 4
"""Queries that a unit has at least, where there are so many: as many share a key that is read."""


Kept = Float32 | NDArray[np.uint16]
"""Keys or values: float32, or the bits of bfloat16."""


def kept(rows: Float32) -> NDArray[np.uint16]:
    """New keys or values as they are kept, and seen by every query, their own included."""
    return nearest_bfloat16(rows)


def attend(
    queries: Float32,
    keys: Kept,
    values: Kept,
    position: int,
    spec: Attention,
    sinks: Float32 | None,
    crew: Crew | None,
) -> Float32:
    """Attention: queries [T, H, W] at position …, keys [K, L, W], values -> [T, H, V].

    `keys` begin at position 0. Causal, a query sees the keys up to its own, else those on both
    sides. Memory may be strided, but for the last axis.
    """
    width, halved = values.shape[2], keys.dtype == np.uint16
    lanes = 2 * LANES if halved else LANES
    is_wide = spec.head_dim % lanes == 0 and width % lanes == 0
    is_plain = spec.softcap is None and spec.alibi is None
    if crew is None or not is_wide or not is_plain:
        return _one_by_one(queries, _wide(keys), _wide(values), position, spec, sinks)
    around = 0 if spec.causal else keys.shape[1]
    lies = *_place(keys), *_place(values)
    parts = np.array([[0, queries.shape[0], position, *lies, around, 0]])
    out = np.empty((queries.shape[0], spec.heads, width), np.float32)
    given = _by_lanes(queries, (LANES, 2)) if halved else queries
    attend_parts(crew, given, out, parts, spec, sinks, halved=halved)
    return _by_lanes(out, (2, LANES)) if halved else out


def attend_parts(
    crew: Crew,
    queries: Float32,
    out: Float32,
    parts: NDArray[np.int64],
    spec: Attention,
    sinks: Float32 | None,
    *,
    halved: bool = False,
) -> None:
    """Attention of many sessions' queries [N, H, W] into `out` [N, H, V], by the kernel.

    Each of `parts` is a session: see `block_kernels.open_attention`. `halved`: its keys and values
    are bfloat16, and every 32 numbers of queries and `out` have the even ones first. They
    must stay where they are until it returns.
    """
    if spec.kv_heads == 1 and spec.heads % LEAST_ROWS == 0:  # as several, so that threads share it
        spec = replace(spec, kv_heads=spec.heads // LEAST_ROWS)
        parts[:, (4, 7)] = 0  # bytes from head to head
    seen = int((parts[:, 1] + parts[:, 2]).max())
    seen = seen if spec.window is None else min(spec.window, seen)
    groups = spec.heads // spec.kv_heads
    unit_rows = max(-(-LEAST_ROWS // groups), UNIT_PAIRS // (seen * groups))
    number, units = crew.kernels.open_attention(
        crew.state,
        halved,
        queries,
        out,
        parts,
        spec.kv_heads,
        scale := np.array([spec.scale], np.float32),
        held := _NONE if sinks is None else np.ascontiguousarray(sinks),
        spec.window or 0,
        unit_rows,
    )
    crew.run(number, units)
    del scale, held  # not before the job is done: it knows them by address


def _wide(rows: Kept) -> Float32:
    if rows.dtype == np.uint16:
        return widened(np.asarray(rows, np.uint16))
    return np.asarray(rows, np.float32)


def _by_lanes(rows: Float32, sides: tuple[int, int]) -> Float32:
    """[N, H, W] with every 32 numbers, seen as a matrix of these sides, turned round."""
    turned = rows.reshape(*rows.shape[:2], -1, *sides).swapaxes(-1, -2)
    return np.ascontiguousarray(turned).reshape(rows.shape)


def _place(array: Kept) -> tuple[int, int, int]:
    """Where [K, L, W] lies: address, bytes from head to head, bytes from token to token."""
    head, token, _ = array.strides
    return array.ctypes.data, head, token


def _one_by_one(
    queries: Float32,
    keys: Float32,
    values: Float32,
    position: int,
    spec: Attention,
    sinks: Float32 | None,
) -> Float32:
    # copied: BLAS must be given every query's keys in the same form
    around = None if spec.causal else (np.ascontiguousarray(keys), np.ascontiguousarray(values))
    rows = []
    for token in range(queries.shape[0]):
        at, end = position + token, position + token + 1
        seen = around or (
            np.ascontiguousarray(keys[:, :end]),
            np.ascontiguousarray(values[:, :end]),
        )
        rows.append(numpy_math.attend(queries[token : token + 1], *seen, at, spec, sinks))
    return np.concatenate(rows)
