"""The two ends of a row of layers in torch: the embedding of texts and images, and the head.

N rows of all parts, D width. Knows nothing of blocks or sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from manyhands.domain.model_spec import EmbedSpec, HeadSpec
from manyhands.engine.blocks import Part
from manyhands.engine.engine import Output
from manyhands.engine.layer_weights import HeadWeights, ImageWeights, TextWeights
from manyhands.engine.torch_linear import Linear
from manyhands.engine.torch_math import activation, norm


def embed(
    spec: EmbedSpec,
    weights: TextWeights[Tensor] | ImageWeights[Tensor, Linear],
    parts: Sequence[Part[Tensor]],
    dtype: torch.dtype,
) -> Tensor:
    """Hidden states [N, D] of token ids, or of the patches that came in as `hidden`."""
    if isinstance(weights, ImageWeights):
        rows = _embed_images(weights, parts, dtype)
    else:
        rows = weights.tokens[torch.tensor([token for part in parts for token in part.token_ids])]
        if spec.scale != 1:
            rows *= spec.scale
        if weights.token_types is not None:
            rows += weights.token_types[0]
        if weights.positions is not None:
            places = [place for part in parts for place in range(part.position, part.end)]
            rows += weights.positions[torch.tensor(places) + spec.position_offset]
    return rows if spec.norm is None else norm(rows, spec.norm, weights.norm)


def _embed_images(
    weights: ImageWeights[Tensor, Linear], parts: Sequence[Part[Tensor]], dtype: torch.dtype
) -> Tensor:
    pixels = np.concatenate([part.hidden for part in parts if part.hidden is not None])
    rows = weights.patches(torch.from_numpy(pixels).to(dtype))
    squares = rows.view(len(parts), -1, rows.shape[1])
    front = rows[:0] if weights.class_token is None else weights.class_token
    if weights.positions is not None:
        squares = squares + weights.positions[len(front) :]
        front = front + weights.positions[: len(front)]
    if weights.registers is not None:
        front = torch.cat([front, weights.registers])
    return torch.cat([piece for image in squares for piece in (front, image)])


def head(
    spec: HeadSpec,
    weights: HeadWeights[Tensor, Linear],
    rows: Tensor,
    cuts: Sequence[int],
    parts: Sequence[Part[Tensor]],
) -> list[Output]:
    """What the head makes of the rows [N, D] of all parts; part k has rows cuts[k] … cuts[k+1]."""
    wanted = [a + row for a, part in zip(cuts, parts, strict=False) for row in part.rows]
    ends = np.cumsum([0, *(len(part.rows) for part in parts)]).tolist()
    if spec.kind != "lm" or weights.head is None:
        normed = _normed(rows, spec, weights).float()
        hidden = normed[torch.tensor(wanted, dtype=torch.int64)].numpy()
        pooled = _pooled(spec, weights, normed.to(rows.dtype), cuts)
        return [
            Output(hidden[a:b], None, None if pooled is None else pooled[k : k + 1])
            for k, (a, b) in enumerate(pairwise(ends))
        ]
    if wanted != list(range(len(rows))):
        rows = rows[torch.tensor(wanted, dtype=torch.int64)]
    rows = _normed(rows, spec, weights)
    scores = weights.head(rows).float()
    if spec.logits_scale != 1:
        scores = scores * spec.logits_scale
    if spec.softcap is not None:
        scores = torch.tanh(scores / spec.softcap) * spec.softcap
    hidden, given = rows.float().numpy(), scores.numpy()
    return [Output(hidden[a:b], given[a:b]) for a, b in pairwise(ends)]


def _normed(rows: Tensor, spec: HeadSpec, weights: HeadWeights[Tensor, Linear]) -> Tensor:
    return rows if spec.norm is None else norm(rows, spec.norm, weights.norm)


def _pooled(
    spec: HeadSpec, weights: HeadWeights[Tensor, Linear], rows: Tensor, cuts: Sequence[int]
) -> np.ndarray | None:
    """One vector a part [parts, outputs] in float32, None for a head that makes none."""
    firsts = rows[torch.tensor(cuts[:-1])]
    match spec.kind:
        case "pool_mean":
            means = [rows[a:b].float().mean(0) for a, b in pairwise(cuts)]
            return torch.stack(means).numpy()
        case "pool_first":
            return firsts.float().numpy()
        case "classify":
            if weights.dense is not None:
                firsts = activation(weights.dense(firsts), spec.activation)
            return None if weights.head is None else weights.head(firsts).float().numpy()
        case _:
            return None
