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
from manyhands.engine.torch_math import attend, mask_of, norm

MOST_SCORES = 2**20
"""Scores that exist at one time where softmax is written out: 4 MB, which caches hold."""


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

    Softmax is written out, in float32: torch's own attention took 0.44 to 13 ms in bfloat16 for one
    token, 32 heads and 512 latents, this 0.14. Only some queries' scores exist at one time.
    """
    rank, nope = weights.latent.kv_rank, weights.latent.nope
    tokens, heads = queries.shape[:2]
    if mask is None and tokens > 1:
        mask = mask_of(0, tokens, None, torch.float32)
    asked = torch.matmul(queries[..., :nope].transpose(0, 1), weights.k_up).transpose(0, 1)
    asked = torch.cat([asked, queries[..., nope:]], -1)
    mixed = torch.empty(tokens, heads, rank, dtype=known.dtype)
    some = max(1, MOST_SCORES // (heads * known.shape[0]))
    for first in range(0, tokens, some):
        rows = asked[first : first + some]
        scores = torch.matmul(rows.flatten(0, 1), known.T).float().mul_(weights.spec.scale)
        if mask is not None:
            scores.view(-1, heads, known.shape[0]).add_(mask[first : first + some, None])
        shares = scores.softmax(-1).to(known.dtype)
        mixed[first : first + some] = torch.matmul(shares, known[:, :rank]).view(-1, heads, rank)
    made = torch.matmul(mixed.transpose(0, 1), weights.v_up.transpose(1, 2))
    return made.transpose(0, 1).reshape(tokens, -1)


def attend_expanded(
    queries: Tensor, known: Tensor, mask: Tensor | None, weights: LatentWeights[Tensor, Linear]
) -> Tensor:
    """See attend_latent: keys and values of all heads are made first.

    Values are made as wide as keys: torch's attention that never holds all scores at one time wants
    them equal.
    """
    spec, rank, nope = weights.spec, weights.latent.kv_rank, weights.latent.nope
    latents, heads = known[:, :rank], queries.shape[1]
    made = functional.linear(latents, weights.k_up.flatten(0, 1)).view(known.shape[0], heads, -1)
    keys = torch.empty(heads, known.shape[0], spec.head_dim, dtype=known.dtype)
    keys[..., :nope] = made.transpose(0, 1)
    keys[..., nope:] = known[:, rank:]
    values = functional.linear(latents, weights.v_up.flatten(0, 1)).view(known.shape[0], heads, -1)
    wide = functional.pad(values.transpose(0, 1), (0, max(0, spec.head_dim - spec.v_head_dim)))
    mixed = attend(queries, keys, wide, mask, spec, None).view(queries.shape[0], heads, -1)
    return mixed[..., : spec.v_head_dim].reshape(queries.shape[0], -1)
