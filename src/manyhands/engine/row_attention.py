"""Attention whose bits, for each query, depend on the keys it sees and on nothing else.

BLAS and torch add up in another order for many queries than for one; here each query is computed by
itself: by a compiled kernel where numba is, else by numpy, one query at a time. The two differ in
the last bits, and carry different names. Knows nothing of sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.weight_blocks import nearest_bfloat16, widened
from manyhands.domain.model_spec import Attention
from manyhands.engine import numpy_math

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

Float32 = NDArray[np.float32]

LANES = 16
"""The kernel takes heads whose widths are multiples of this."""

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
    is_wide = spec.head_dim % LANES == 0 and width % LANES == 0
    is_plain = spec.softcap is None and spec.alibi is None
    if crew is None or not is_wide or not is_plain:
        return _one_by_one(queries, _wide(keys), _wide(values), position, spec, sinks)
    around = 0 if spec.causal else keys.shape[1]
    lies = *_place(keys), *_place(values)
    parts = np.array([[0, queries.shape[0], position, *lies, around, 0]])
    out = np.empty((queries.shape[0], spec.heads, width), np.float32)
    given = _evens_first(queries) if halved else queries
    held = None if sinks is None else np.ascontiguousarray(sinks)
    crew.end(
        crew.kernels.attend(
            crew.state,
            crew.threads,
            halved,
            given.ctypes.data,
            given.strides[0],
            given.strides[1],
            out.ctypes.data,
            parts.ctypes.data,
            1,
            spec.heads,
            spec.kv_heads,
            spec.head_dim,
            width,
            spec.scale,
            0 if held is None else held.ctypes.data,
            spec.window or 0,
        )
    )
    return out


def _wide(rows: Kept) -> Float32:
    if rows.dtype == np.uint16:
        return widened(np.asarray(rows, np.uint16))
    return np.asarray(rows, np.float32)


def _evens_first(rows: Float32) -> Float32:
    """[N, H, W] with the even ones of every whole 32 numbers first."""
    turned, whole = np.array(rows, order="C"), rows.shape[2] // 32 * 32
    pairs = rows[..., :whole].reshape(*rows.shape[:2], -1, 16, 2)
    turned[..., :whole] = pairs.swapaxes(-1, -2).reshape(*rows.shape[:2], whole)
    return turned


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
