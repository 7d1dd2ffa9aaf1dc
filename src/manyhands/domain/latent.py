"""The two ways to attend over latents (DeepSeek-V2, 2024), and which takes less work.

Expanded: keys and values of every head are made of every latent in memory, then attended to.
Absorbed: the matrix that makes keys is applied to the queries instead, and the one that makes
values to what comes out; heads attend to the latents themselves, as to one wide key head.
Knows nothing of arrays.
"""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import Attention, Latent


def absorbed(spec: Attention, latent: Latent) -> Attention:
    """The words of the absorbed way: one key head, whose keys begin with their values."""
    width = latent.kv_rank + latent.rope
    return replace(spec, kv_heads=1, head_dim=width, v_head_dim=width, latent=None)


def absorbed_flops(spec: Attention, latent: Latent, tokens: float, pairs: float) -> float:
    """For `tokens` queries that see `pairs` keys in all: operations beside the linears."""
    making = tokens * latent.kv_rank * (latent.nope + spec.v_head_dim)
    return 2.0 * spec.heads * (making + pairs * (2 * latent.kv_rank + latent.rope))


def expanded_flops(spec: Attention, latent: Latent, keys: float, pairs: float) -> float:
    """The same when keys and values of `keys` latents are made first."""
    making = keys * latent.kv_rank * (latent.nope + spec.v_head_dim)
    return 2.0 * spec.heads * (making + pairs * (spec.head_dim + spec.v_head_dim))


def is_absorbed_better(spec: Attention, latent: Latent, tokens: int, keys: int) -> bool:
    """True when `tokens` queries at the end of `keys` latents are attended to at less work so."""
    pairs = tokens * (keys - tokens / 2)
    return absorbed_flops(spec, latent, tokens, pairs) <= expanded_flops(spec, latent, keys, pairs)
