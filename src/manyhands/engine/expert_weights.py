"""The forms in which an engine holds MLPs, mixtures of them, and latent attention.

Knows nothing of dtypes or arrays, nor of where they come from: `layer_weights` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from manyhands.domain.model_spec import Attention, Latent, Mlp, Moe

A = TypeVar("A")
L = TypeVar("L", covariant=True)


@dataclass(frozen=True, slots=True)
class MlpWeights(Generic[L]):
    """One MLP and its words; `mlp_in` is gate over up, or up alone when plain."""

    spec: Mlp
    mlp_in: L
    down: L


@dataclass(frozen=True, slots=True)
class MoeWeights(Generic[A, L]):
    """A router, rows [N, D] -> [N, E], and a correction [E], both float32, and the experts.

    `shared` sees every row, times the sigmoid of `shared_scale` [N, 1] where that is there.
    """

    spec: Moe
    router: L
    correction: A | None
    experts: tuple[MlpWeights[L], ...]
    shared: MlpWeights[L] | None
    shared_scale: L | None


@dataclass(frozen=True, slots=True)
class LatentWeights(Generic[A, L]):
    """What makes heads of the compressed query [q_rank] and of the latent [kv_rank].

    Without `q_up` queries are not compressed. `k_up` is [heads, nope, kv_rank], `v_up` [heads,
    v_head_dim, kv_rank]: apart, because bfloat16 products of every head with its part of one array
    were 16x slower. `absorbed` is `spec` as `latent.absorbed` says it.
    """

    spec: Attention
    latent: Latent
    absorbed: Attention
    q_up: L | None
    k_up: A
    v_up: A
