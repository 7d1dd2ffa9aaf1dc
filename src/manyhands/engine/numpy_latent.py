"""Latent attention in numpy float32, absorbed or expanded, whichever is less work.

T tokens of one session, N rows of all, H heads, R rank of the latent, L latents in memory. Knows
nothing of blocks or sessions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.latent import is_absorbed_better
from manyhands.domain.model_spec import BlockSpec
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.layer_weights import BlockWeights
from manyhands.engine.numpy_math import attend, norm

Float32 = NDArray[np.float32]
Linear = Callable[[Float32], Float32]


def split_latent(
    rows: Float32,
    block: BlockSpec,
    weights: BlockWeights[Float32, Linear],
    latent: LatentWeights[Float32, Linear],
) -> tuple[Float32, Float32]:
    """Queries [N, H, nope + rope] and what is remembered [N, R + rope], neither turned yet."""
    spec, form = block.attention, block.attention.qk or block.norm
    fused = weights.qkv(rows)
    cut = fused.shape[1] - latent.latent.kv_rank - latent.latent.rope
    queries, known = fused[:, :cut], fused[:, cut:]
    if latent.q_up is not None:
        queries = latent.q_up(norm(queries, form, weights.q_norm))
    rank = latent.latent.kv_rank
    known[:, :rank] = norm(known[:, :rank], form, weights.k_norm)
    return queries.reshape(-1, spec.heads, spec.head_dim), known


def attend_latent(
    queries: Float32, known: Float32, position: int, weights: LatentWeights[Float32, Linear]
) -> Float32:
    """Queries [T, H, nope + rope] at position … over latents [L, R + rope] -> [T, H, V]."""
    is_absorbed = is_absorbed_better(weights.spec, weights.latent, queries.shape[0], known.shape[0])
    attend_so = attend_absorbed if is_absorbed else attend_expanded
    return attend_so(queries, known, position, weights)


def attend_absorbed(
    queries: Float32, known: Float32, position: int, weights: LatentWeights[Float32, Linear]
) -> Float32:
    """See attend_latent: heads attend to the latents themselves."""
    rank, nope = weights.latent.kv_rank, weights.latent.nope
    asked = np.empty((*queries.shape[:2], known.shape[1]), np.float32)
    asked[..., :rank] = (queries[..., :nope].transpose(1, 0, 2) @ weights.k_up).transpose(1, 0, 2)
    asked[..., rank:] = queries[..., nope:]
    mixed = attend(asked, known[None], known[None, :, :rank], position, weights.absorbed, None)
    made: Float32 = mixed.transpose(1, 0, 2) @ weights.v_up.transpose(0, 2, 1)
    return made.transpose(1, 0, 2)


def attend_expanded(
    queries: Float32, known: Float32, position: int, weights: LatentWeights[Float32, Linear]
) -> Float32:
    """See attend_latent: keys and values of all heads are made first."""
    rank, nope = weights.latent.kv_rank, weights.latent.nope
    latents = known[:, :rank]
    keys = np.empty((queries.shape[1], known.shape[0], queries.shape[2]), np.float32)
    keys[..., :nope] = latents @ weights.k_up.transpose(0, 2, 1)
    keys[..., nope:] = known[:, rank:]
    values = latents @ weights.v_up.transpose(0, 2, 1)
    return attend(queries, keys, values, position, weights.spec, None)
