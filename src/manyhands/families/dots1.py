"""dots.llm1: a Qwen3 with the mixtures of DeepSeek-V3. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Moe
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.deepseek_v3 import NAMES
from manyhands.families.layer_types import by_layer
from manyhands.families.mixture import (
    checked_groups,
    chosen_count,
    expert_count,
    expert_tensors,
    refuse_other,
    shared_width,
    with_mixtures,
)
from manyhands.families.values import Config, flag, number, whole, with_defaults


def spec(config: Config) -> ModelSpec:
    """A dots.llm1. A `sliding_window` holds from `max_window_layers` on, or where named."""
    refuse_other(config, "scoring_func", "noaux_tc", "sigmoid")
    heads, has_bias = whole(config, "num_attention_heads"), flag(config, "attention_bias")
    has_window = "sliding_window" not in config or config["sliding_window"] is not None
    windows = by_layer(
        with_defaults(
            {**config, "use_sliding_window": has_window}, sliding_window=4096, max_window_layers=62
        )
    )
    made = standard(
        config, "dots1", kv_heads=whole(config, "num_key_value_heads", heads), windows=windows
    )
    dense = build(
        replace(made, has_qkv_bias=has_bias, has_o_bias=has_bias, qk_norm="head", qk=made.norm)
    )
    experts = expert_count(config, "n_routed_experts", "num_local_experts")
    moe = Moe(
        experts,
        chosen_count(config, experts),
        "sigmoid",
        renormalise=flag(config, "norm_topk_prob"),
        scale=number(config, "routed_scaling_factor", 1.0),
        groups=whole(config, "n_group", 1),
        top_groups=whole(config, "topk_group", 1),
        shared_width=shared_width(config),
    )
    inner = whole(config, "moe_intermediate_size")
    first = whole(config, "first_k_dense_replace", 0, least=0)
    tables = expert_tensors(NAMES, checked_groups(moe), dense.width, inner)
    return with_mixtures(dense, moe, inner, lambda block: block >= first, tables)
