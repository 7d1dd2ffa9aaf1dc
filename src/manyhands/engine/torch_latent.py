"""Latent attention in torch, absorbed or expanded, whichever is less work.

T tokens of one session, N rows of all, H heads, R rank of the latent, L latents in memory, V width
of a value. Knows nothing of blocks or sessions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from manyhands.domain.latent import is_absorbed_better
from manyhands.domain.model_spec import BlockSpec
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.layer_weights import BlockWeights
from manyhands.engine.torch_linear import Linear
from manyhands.engine.torch_math import attend, norm


def split_latent(
    rows: Tensor,
    block: BlockSpec,
    weights: BlockWeights[Tensor, Linear],
    latent: LatentWeights[Tensor, Linear],
) -> tuple[Tensor, Tensor]:
    """Queries [N, H, nope + rope] and what is remembered [N, R + rope], neither turned yet."""
    spec, form = block.attention, block.attention.qk or block.norm
    fused = weights.qkv(rows)
    cut = fused.shape[1] - latent.latent.kv_rank - latent.latent.rope
    queries, known = fused[:, :cut], fused[:, cut:]
    if latent.q_up is not None:
        queries = latent.q_up(norm(queries, form, weights.q_norm))
    rank = latent.latent.kv_rank
    known[:, :rank] = norm(known[:, :rank], form, weights.k_norm)
    return queries.view(-1, spec.heads, spec.head_dim), known


def attend_latent(
    queries: Tensor, known: Tensor, mask: Tensor | None, weights: LatentWeights[Tensor, Linear]
) -> Tensor:
    """Queries [T, H, nope + rope] over latents [L, R + rope] -> [T, H * V]; mask: see `attend`."""
    is_absorbed = is_absorbed_better(weights.spec, weights.latent, queries.shape[0], known.shape[0])
    attend_so = attend_absorbed if is_absorbed else attend_expanded
    return attend_so(queries, known, mask, weights)


def attend_absorbed(
    queries: Tensor, known: Tensor, mask: Tensor | None, weights: LatentWeights[Tensor, Linear]
) -> Tensor:
    """See attend_latent: heads attend to the latents themselves.

    What is remembered serves as values too, and the part of them that no value has is cut off
    afterwards: torch's attention that never holds all scores at one time wants keys and values of
    one width.
    """
    rank, nope = weights.latent.kv_rank, weights.latent.nope
    tokens, heads = queries.shape[:2]
    by_head = weights.kv_up.view(heads, -1, rank)
    asked = torch.matmul(queries[..., :nope].transpose(0, 1), by_head[:, :nope])
    asked = torch.cat([asked.transpose(0, 1), queries[..., nope:]], -1)
    mixed = attend(asked, known[None], known[None], mask, weights.absorbed, None)
    latents = mixed.view(tokens, heads, -1)[..., :rank].transpose(0, 1)
    made = torch.matmul(latents, by_head[:, nope:].transpose(1, 2))
    return made.transpose(0, 1).reshape(tokens, -1)


def attend_expanded(
    queries: Tensor, known: Tensor, mask: Tensor | None, weights: LatentWeights[Tensor, Linear]
) -> Tensor:
    """See attend_latent: keys and values of all heads are made first, values as wide as keys."""
    spec, rank, nope = weights.spec, weights.latent.kv_rank, weights.latent.nope
    tokens, heads = queries.shape[:2]
    expanded = functional.linear(known[:, :rank], weights.kv_up).view(known.shape[0], heads, -1)
    keys = torch.empty(heads, known.shape[0], spec.head_dim, dtype=known.dtype)
    keys[..., :nope] = expanded[..., :nope].transpose(0, 1)
    keys[..., nope:] = known[:, rank:]
    values = expanded[..., nope:].transpose(0, 1)
    values = functional.pad(values, (0, max(0, spec.head_dim - spec.v_head_dim)))
    mixed = attend(queries, keys, values, mask, spec, None).view(tokens, heads, -1)
    return mixed[..., : spec.v_head_dim].reshape(tokens, -1)
