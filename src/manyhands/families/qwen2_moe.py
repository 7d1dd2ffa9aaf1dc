"""Qwen2-MoE: a Qwen2 with mixtures and one shared expert behind a gate of its own. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Moe
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import block_count, by_layer
from manyhands.families.mixture import (
    Names,
    chosen_count,
    expert_count,
    expert_tensors,
    sparse_steps,
    with_mixtures,
)
from manyhands.families.values import Config, flag, whole, with_defaults

NAMES = Names(shared="shared_expert", shared_scale="shared_expert_gate.weight")


def spec(config: Config) -> ModelSpec:
    """A Qwen2-MoE (also Qwen1.5-MoE)."""
    config = with_defaults(config, num_experts_per_tok=4, moe_intermediate_size=1408)
    if flag(config, "use_sliding_window"):
        config = with_defaults(config, layer_types=_layer_types(config))
    dense = build(
        replace(
            standard(config, "qwen2_moe", windows=by_layer(config)),
            has_qkv_bias=flag(config, "qkv_bias", True),
        )
    )
    experts = expert_count(config, "num_experts", "num_local_experts")
    moe = Moe(
        experts,
        chosen_count(config, experts),
        "softmax",
        renormalise=flag(config, "norm_topk_prob"),
        shared_width=whole(config, "shared_expert_intermediate_size", 5632),
    )
    inner = whole(config, "moe_intermediate_size")
    tables = expert_tensors(NAMES, moe, dense.width, inner)
    return with_mixtures(dense, moe, inner, sparse_steps(config), tables)


def _layer_types(config: Config) -> tuple[str, ...]:
    """Which blocks have the window unless said: every other one before `max_window_layers`."""
    last = whole(config, "max_window_layers", 28, least=0)
    return tuple(
        "sliding_attention" if block % 2 == 0 and block < last else "full_attention"
        for block in range(block_count(config))
    )
