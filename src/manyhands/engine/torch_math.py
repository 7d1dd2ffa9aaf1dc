"""Norms, rotary positions, activations and attention in torch, as plain functions.

N rows, T tokens of one session, H query heads, K key heads, W head width, L keys.
Knows nothing of blocks or sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from manyhands.domain.model_spec import Attention, Mlp, Norm, Rope
from manyhands.engine.layer_weights import NormWeights

ARITHMETIC = 4
"""Names this arithmetic beside torch's version. Raise it with every change, here, in `torch_linear`
or in `torch_blocks`, that can change a bit of a result: another order of additions is enough.
3: experts of one row are multiplied by their share, then added. 4: norms and rotations by kernels
beside bfloat16 and integers.
"""

QUERY_ROWS = 128
"""Queries whose scores exist at one time where softmax is written out."""


Apply = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""How a function of single numbers is applied to rows."""


def norm(rows: Tensor, spec: Norm, weights: NormWeights[Tensor]) -> Tensor:
    """Root-mean-square or layer norm over the last axis, in float32 inside."""
    width = (rows.shape[-1],)
    if spec.kind == "rms" and not spec.plus_one and weights.bias is None:
        return functional.rms_norm(rows, width, weights.weight, spec.eps)
    weight = None if weights.weight is None else weights.weight.float()
    bias = None if weights.bias is None else weights.bias.float()
    if weight is not None and spec.plus_one:
        weight = weight + 1
    if spec.kind == "layer":
        return functional.layer_norm(rows.float(), width, weight, bias, spec.eps).to(rows.dtype)
    normed = functional.rms_norm(rows.float(), width, weight, spec.eps)
    return (normed if bias is None else normed + bias).to(rows.dtype)


def rotation(
    rope: Rope, is_long: bool, positions: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, 1, pairs] for rows at `positions`, times the attention factor."""
    use_long = is_long and rope.inv_freq_long is not None
    frequencies = rope.inv_freq_long if use_long and rope.inv_freq_long else rope.inv_freq
    angles = positions[:, None, None] * torch.tensor(frequencies, dtype=torch.float32)
    cos, sin = angles.cos(), angles.sin()
    if rope.attention_factor != 1:
        cos, sin = cos * rope.attention_factor, sin * rope.attention_factor
    return cos.to(dtype), sin.to(dtype)


def rotate(heads: Tensor, rope: Rope, cos: Tensor, sin: Tensor) -> None:
    """Rotate [N, heads, W] in place; cos and sin [N, 1, pairs]. Dims beyond the pairs stay."""
    pairs = cos.shape[-1]
    if rope.interleaved:
        first, second = heads[..., 0 : 2 * pairs : 2], heads[..., 1 : 2 * pairs : 2]
    else:
        first, second = heads[..., :pairs], heads[..., pairs : 2 * pairs]
    turned = torch.addcmul(first * cos, second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(turned)


def mask_of(position: int, tokens: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[T, L] to be added to scores: 0 where a query at position … sees a key, -inf elsewhere."""
    end = position + tokens
    query, key = torch.arange(position, end)[:, None], torch.arange(end)[None]
    hidden = key > query
    if window is not None:
        hidden |= key <= query - window
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -math.inf)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    spec: Attention,
    sinks: Tensor | None,
) -> Tensor:
    """Attention: queries [T, H, W], keys [K, L, W], values [K, L, V] -> [T, H * V].

    `mask` [T, L] as `mask_of` makes it. None: a single query that sees every key given, or, where
    there are as many queries as keys, each sees the keys up to its own; all of them where `spec` is
    not causal.
    """
    tokens = queries.shape[0]
    if spec.softcap is not None or sinks is not None or spec.alibi is not None:
        return _written_out(queries, keys, values, mask, spec, sinks)
    if tokens == 1:
        by_group = queries.reshape(1, spec.kv_heads, -1, spec.head_dim)
        return attend_once(by_group, keys, values, spec).reshape(1, -1)
    mixed = functional.scaled_dot_product_attention(
        queries.transpose(0, 1)[None],
        keys[None],
        values[None],
        attn_mask=mask,
        is_causal=mask is None and tokens > 1 and spec.causal,
        scale=spec.scale,
        enable_gqa=spec.heads != spec.kv_heads,
    )
    return mixed[0].transpose(0, 1).reshape(tokens, -1)


def attend_around(
    queries: Tensor, keys: Tensor, values: Tensor, spec: Attention, sinks: Tensor | None
) -> Tensor:
    """Attention to both sides: queries [T, H, W], keys [K, T, W], values [K, T, V] -> [T, H * V].

    A query of a window sees the keys nearer than `window`; only those are looked at.
    """
    tokens, window = queries.shape[0], spec.window
    if window is None or tokens <= window:
        return attend(queries, keys, values, None, spec, sinks)
    some = []
    for first in range(0, tokens, QUERY_ROWS):
        last = min(first + QUERY_ROWS, tokens)
        start, end = max(0, first - window + 1), min(tokens, last + window - 1)
        distance = torch.arange(first, last)[:, None] - torch.arange(start, end)
        mask = torch.zeros(distance.shape, dtype=queries.dtype)
        mask.masked_fill_(distance.abs() >= window, -math.inf)
        seen = keys[:, start:end], values[:, start:end]
        some.append(attend(queries[first:last], *seen, mask, spec, sinks))
    return torch.cat(some)


def attend_once(by_group: Tensor, keys: Tensor, values: Tensor, spec: Attention) -> Tensor:
    """One query [1, K, G, W] that sees every key [K, L, W], neither capped nor with sinks.

    The G heads of a group are rows of one matrix: 1.4x of `enable_gqa` at 1,024 keys in float32; in
    bfloat16 8x, for there that reads the keys anew for every head. -> [1, K, G, V].
    """
    return functional.scaled_dot_product_attention(
        by_group, keys[None], values[None], scale=spec.scale
    )


def is_plain(spec: Attention, sinks: Tensor | None) -> bool:
    """True where scores are neither capped nor shifted nor shared with sinks."""
    return spec.causal and spec.softcap is None and spec.alibi is None and sinks is None


def _written_out(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    spec: Attention,
    sinks: Tensor | None,
) -> Tensor:
    """Attention with softcap, alibi or sinks, which torch's own lacks; softmax in float32."""
    tokens, groups = queries.shape[0], spec.heads // spec.kv_heads
    if mask is None and tokens > 1 and spec.causal:
        mask = mask_of(0, tokens, None, torch.float32)
    grouped = queries.reshape(tokens, spec.kv_heads, groups, -1).permute(1, 2, 0, 3)
    some = []
    for first in range(0, tokens, QUERY_ROWS):
        part = grouped[:, :, first : first + QUERY_ROWS]
        scores = torch.matmul(part, keys[:, None].transpose(-1, -2)).float() * spec.scale
        if spec.softcap is not None:
            scores = torch.tanh(scores / spec.softcap) * spec.softcap
        if spec.alibi is not None:
            scores = scores + alibi(spec.alibi, keys.shape[1]).view(spec.kv_heads, groups, 1, -1)
        if mask is not None:
            scores = scores + mask[first : first + QUERY_ROWS].float()
        if sinks is not None:
            sink = sinks.float().reshape(spec.kv_heads, groups, 1, 1)
            scores = torch.cat([scores, sink.expand(-1, -1, scores.shape[2], 1)], -1)
        weights = torch.softmax(scores, -1)[..., : keys.shape[1]].to(values.dtype)
        some.append(torch.matmul(weights, values[:, None]))
    mixed = torch.cat(some, 2)  # [K, G, T, V]
    return mixed.permute(2, 0, 1, 3).reshape(tokens, -1)


def alibi(slopes: tuple[float, ...], keys: int) -> Tensor:
    """What alibi adds to scores [H, L]: a slope a head, times how far a key is before the last one.

    Alibi counts from the query, but softmax does not see what all scores of a query share.
    """
    return torch.tensor(slopes)[:, None] * torch.arange(1 - keys, 1, dtype=torch.float32)


def plainly(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """A function of every number of rows, as torch likes to compute it."""
    return function(rows)


def activate(rows: Tensor, spec: Mlp, apply: Apply = plainly) -> Tensor:
    """The inner rows of an MLP: [N, 2 * width] gate beside up when gated, else [N, width]."""
    if spec.kind == "plain":
        return apply(partial(activation, name=spec.activation), rows)
    gate, up = rows[:, : spec.width], rows[:, spec.width :]
    if spec.activation == "swiglu_oai":
        if spec.limit is not None:
            gate, up = gate.clamp(max=spec.limit), up.clamp(-spec.limit, spec.limit)
        alpha = 1.702 if spec.alpha is None else spec.alpha
        return (up + 1) * gate * apply(torch.sigmoid, gate * alpha)
    return apply(partial(activation, name=spec.activation), gate).mul_(up)


def activation(rows: Tensor, name: str) -> Tensor:
    """One of the functions that specs name, but for swiglu_oai, of every number."""
    match name:
        case "silu":
            return functional.silu(rows)
        case "gelu":
            return functional.gelu(rows)
        case "gelu_tanh":
            return functional.gelu(rows, approximate="tanh")
        case "relu":
            return functional.relu(rows)
        case "tanh":
            return torch.tanh(rows)
        case _:  # relu2; `served` has refused every other
            return functional.relu(rows).square()
