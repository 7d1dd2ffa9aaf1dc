"""Mixtral: a Mistral whose MLPs are mixtures of experts. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec, Moe
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import block_count
from manyhands.families.mixture import (
    Names,
    chosen_count,
    expert_count,
    expert_tensors,
    with_mixtures,
)
from manyhands.families.values import Config, whole, with_defaults

NAMES = Names(path="block_sparse_moe", gate="w1", up="w3", down="w2")


def spec(config: Config) -> ModelSpec:
    """A Mixtral. Every block is a mixture; a `sliding_window` holds for all of them."""
    config = with_defaults(
        config, rms_norm_eps=1e-5, num_local_experts=8, num_experts_per_tok=2, rope_theta=1e6
    )
    has_window = config.get("sliding_window") is not None
    window = whole(config, "sliding_window", most=2**31) if has_window else None
    dense = build(standard(config, "mixtral", windows=(window,) * block_count(config)))
    experts = expert_count(config, "num_local_experts", "num_experts")
    moe = Moe(experts, chosen_count(config, experts), "softmax", renormalise=True)
    inner = whole(config, "intermediate_size")
    tables = expert_tensors(NAMES, moe, dense.width, inner)
    return with_mixtures(dense, moe, inner, lambda _: True, tables)
