"""Attention whose bits, for each query, depend on the keys it sees and on nothing else.

BLAS and torch add up in another order for many queries than for one; here each query is computed by
itself: by a compiled kernel where numba is, else by numpy, one query at a time. The two differ in
the last bits, and carry different names. Knows nothing of sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.model_spec import Attention
from manyhands.engine import numpy_math

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

Float32 = NDArray[np.float32]

_NONE = np.empty(0, np.float32)

LANES = 16
"""The kernel takes heads whose widths are multiples of this."""

UNIT_PAIRS = 4096
"""About how many pairs of query and key one unit computes."""


def attend(
    queries: Float32,
    keys: Float32,
    values: Float32,
    position: int,
    spec: Attention,
    sinks: Float32 | None,
    crew: Crew | None,
) -> Float32:
    """Attention: queries [T, H, W] at position …, keys [K, L, W], values -> [T, H, V].

    `keys` begin at position 0. Causal, a query sees the keys up to its own, else those on both
    sides. Memory may be strided, but for the last axis.
    """
    width = values.shape[2]
    is_wide = spec.head_dim % LANES == 0 and width % LANES == 0
    is_plain = spec.softcap is None and spec.alibi is None
    if crew is None or not is_wide or not is_plain:
        return _one_by_one(queries, keys, values, position, spec, sinks)
    if keys.shape[0] == 1:  # a head each, so that threads share them
        keys, values = _for_each_head(keys, spec.heads), _for_each_head(values, spec.heads)
    out = np.empty((queries.shape[0], spec.heads, width), np.float32)
    most = keys.shape[1] if spec.window is None else spec.window * (1 if spec.causal else 2)
    seen = min(most, keys.shape[1])
    unit_rows = max(1, UNIT_PAIRS // (seen * (spec.heads // keys.shape[0])))
    number, units = crew.kernels.open_attention(
        crew.state,
        queries,
        keys,
        values,
        out,
        scale := np.array([spec.scale], np.float32),
        held := _NONE if sinks is None else np.ascontiguousarray(sinks),
        position,
        spec.window or 0,
        spec.causal,
        unit_rows,
    )
    crew.run(number, units)
    del scale, held  # not before the job is done: it knows them by address
    return out


def _for_each_head(only: Float32, heads: int) -> Float32:
    """One key head [1, L, W] as so many of them, in the same memory."""
    return np.lib.stride_tricks.as_strided(only, (heads, *only.shape[1:]), (0, *only.strides[1:]))


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
