"""Norms, rotary positions, activations and attention in numpy float32, as plain functions.

N rows, T tokens of one session, H query heads, K key heads, G = H / K, W head width, L keys.
Knows nothing of blocks or sessions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.model_spec import Attention, Mlp, Norm, Rope
from manyhands.engine.layer_weights import NormWeights

Float32 = NDArray[np.float32]

ARITHMETIC = 2
"""Names this arithmetic beside numpy's version. Raise it with every change, here or in
`numpy_blocks`, that can change a bit of a result: another order of additions is enough.
2: softmax over blocks of queries.
"""

QUERY_ROWS = 32
"""Queries whose scores exist at one time: they stay in the cache while they are worked on."""

_erf = np.frompyfunc(math.erf, 1, 1)


def norm(rows: Float32, spec: Norm, weights: NormWeights[Float32]) -> Float32:
    """Root-mean-square or layer norm over the last axis."""
    if spec.kind == "layer":
        rows = rows - rows.mean(-1, keepdims=True)
    mean_square = np.square(rows).mean(-1, keepdims=True)
    rows = rows / np.sqrt(mean_square + np.float32(spec.eps))
    if weights.weight is not None:
        rows *= weights.weight + np.float32(1) if spec.plus_one else weights.weight
    if weights.bias is not None:
        rows += weights.bias
    return rows


def rotation(rope: Rope, is_long: bool, positions: NDArray[np.float32]) -> tuple[Float32, Float32]:
    """Cosines and sines [N, pairs] for rows at `positions`, times the attention factor."""
    use_long = is_long and rope.inv_freq_long is not None
    frequencies = rope.inv_freq_long if use_long and rope.inv_freq_long else rope.inv_freq
    angles = positions[:, None] * np.array(frequencies, np.float32)
    factor = np.float32(rope.attention_factor)
    return np.cos(angles) * factor, np.sin(angles) * factor


def rotate(heads: Float32, rope: Rope, cos: Float32, sin: Float32) -> None:
    """Rotate [N, heads, W] in place; cos and sin [N, pairs]. Dims beyond the pairs stay."""
    pairs = cos.shape[1]
    if rope.interleaved:
        first, second = heads[..., 0 : 2 * pairs : 2], heads[..., 1 : 2 * pairs : 2]
    else:
        first, second = heads[..., :pairs], heads[..., pairs : 2 * pairs]
    cos, sin = cos[:, None], sin[:, None]
    turned = first * cos - second * sin
    second[...] = second * cos + first * sin
    first[...] = turned


def attend(
    queries: Float32,
    keys: Float32,
    values: Float32,
    position: int,
    spec: Attention,
    sinks: Float32 | None,
) -> Float32:
    """Attention: queries [T, H, W] at position …, keys [K, L, W], values -> [T, H, V].

    Causal, each query sees the keys up to its own, else those on both sides; a window limits both.
    """
    tokens, heads, width = queries.shape
    groups = heads // spec.kv_heads
    grouped = queries.reshape(tokens, spec.kv_heads, groups, width).transpose(1, 2, 0, 3)
    result = np.empty((tokens, heads, values.shape[-1]), np.float32)
    by_group = result.reshape(tokens, spec.kv_heads, groups, -1).transpose(1, 2, 0, 3)
    for first in range(0, tokens, QUERY_ROWS):
        last = min(first + QUERY_ROWS, tokens)
        end = position + last if spec.causal else keys.shape[1]
        if spec.window is not None:
            end = min(end, position + last + spec.window - 1)
        start = 0 if spec.window is None else max(0, position + first + 1 - spec.window)
        some = np.ascontiguousarray(grouped[:, :, first:last]).reshape(spec.kv_heads, -1, width)
        some = some * np.float32(spec.scale)  # of queries, which are fewer than scores
        flat = some @ keys[:, start:end].transpose(0, 2, 1)
        scores = flat.reshape(spec.kv_heads, groups, last - first, end - start)
        mass = _weigh(scores, position + first, start, spec, sinks)
        mixed = flat @ values[:, start:end]
        by_group[:, :, first:last] = mixed.reshape(*mass.shape[:3], -1) / mass
    return result


def _weigh(
    scores: Float32, first: int, start: int, spec: Attention, sinks: Float32 | None
) -> Float32:
    """Softmax of [K, G, T, L] over L in place, but for the division by the mass [K, G, T, 1].

    Queries are those from `first` on, keys those from `start` on. A head's sink takes part of the
    mass and gives nothing.
    """
    if spec.softcap is not None:
        scores /= np.float32(spec.softcap)
        np.tanh(scores, out=scores)
        scores *= np.float32(spec.softcap)
    if spec.alibi is not None:
        scores += alibi(spec.alibi, scores.shape[-1]).reshape(
            spec.kv_heads, -1, 1, scores.shape[-1]
        )
    _hide(scores, first, start, spec)
    best = scores.max(-1, keepdims=True)
    sink = None if sinks is None else sinks.reshape(*scores.shape[:2], 1, 1)
    if sink is not None:
        best = np.maximum(best, sink)
    scores -= best
    np.exp(scores, out=scores)
    mass: Float32 = scores.sum(-1, keepdims=True)
    return mass if sink is None else mass + np.exp(sink - best)


def alibi(slopes: tuple[float, ...], keys: int) -> Float32:
    """What alibi adds to scores [H, L]: a slope a head, times how far a key is before the last one.

    Alibi counts from the query, but softmax does not see what all scores of a query share.
    """
    added: Float32 = np.multiply.outer(
        np.array(slopes, np.float32), np.arange(1 - keys, 1, dtype=np.float32)
    )
    return added


def _hide(scores: Float32, first: int, start: int, spec: Attention) -> None:
    """Give minus infinity to keys [start, …) that a query [first, …) must not see."""
    tokens, window = scores.shape[2], spec.window
    if tokens == 1:
        return  # only keys it sees were given
    query = np.arange(first, first + tokens)[:, None]
    if spec.causal:
        np.copyto(scores[..., first - start :], -np.inf, where=query < query.T)
    if window is not None:
        key = np.arange(start, start + scores.shape[3])
        np.copyto(scores, -np.inf, where=abs(query - key) >= window)


def activate(rows: Float32, spec: Mlp) -> Float32:
    """The inner rows of an MLP: [N, 2 * width] gate beside up when gated, else [N, width]."""
    if spec.kind == "plain":
        return activation(rows, spec.activation)
    gate, up = rows[:, : spec.width], rows[:, spec.width :]
    if spec.activation == "swiglu_oai":
        limit = np.float32(np.inf if spec.limit is None else spec.limit)
        gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
        alpha = np.float32(1.702 if spec.alpha is None else spec.alpha)
        glu: Float32 = (up + np.float32(1)) * gate * sigmoid(gate * alpha)
        return glu
    product: Float32 = np.multiply(activation(gate, spec.activation), up, dtype=np.float32)
    return product


def sigmoid(rows: Float32) -> Float32:
    """By tanh: it never overflows, whatever the sign."""
    half = np.float32(0.5)
    return np.asarray(half * np.tanh(half * rows) + half, np.float32)


def activation(rows: Float32, name: str) -> Float32:
    """One of the functions that specs name, but for swiglu_oai, of every number."""
    one, half = np.float32(1), np.float32(0.5)
    out: Float32
    match name:
        case "silu":
            out = rows * sigmoid(rows)
        case "gelu":
            # numpy has no erf; Python's is exact and slow, about 0.1 µs a number.
            out = half * rows * (one + _erf(rows * np.float32(0.5**0.5)).astype(np.float32))
        case "gelu_tanh":
            cubed = np.float32(0.044715) * np.square(rows) * rows
            inner: Float32 = np.tanh(np.float32(math.sqrt(2 / math.pi)) * (rows + cubed))
            out = half * rows * (one + inner)
        case "relu":
            out = np.maximum(rows, np.float32(0))
        case "tanh":
            out = np.tanh(rows)
        case _:  # relu2; `served` has refused every other
            out = np.square(np.maximum(rows, np.float32(0)))
    return out
