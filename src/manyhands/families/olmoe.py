"""OLMoE: a Llama with mixtures of experts and norms over whole queries and keys. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Moe
from manyhands.errors import NotServed
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.mixture import (
    Names,
    chosen_count,
    expert_count,
    expert_tensors,
    with_mixtures,
)
from manyhands.families.values import Config, flag, whole, with_defaults


def spec(config: Config) -> ModelSpec:
    """An OLMoE. Every block is a mixture."""
    if config.get("clip_qkv") is not None:
        raise NotServed("clip_qkv is not served; use a model whose config has null there")
    config = with_defaults(config, rms_norm_eps=1e-5, num_experts_per_tok=8)
    heads, has_bias = whole(config, "num_attention_heads"), flag(config, "attention_bias")
    made = standard(config, "olmoe", kv_heads=whole(config, "num_key_value_heads", heads))
    made = replace(made, has_qkv_bias=has_bias, has_o_bias=has_bias)
    dense = build(replace(made, qk_norm="whole", qk=made.norm))
    experts = expert_count(config, "num_experts", "num_local_experts")
    moe = Moe(
        experts,
        chosen_count(config, experts),
        "softmax",
        renormalise=flag(config, "norm_topk_prob"),
    )
    inner = whole(config, "intermediate_size")
    tables = expert_tensors(Names(), moe, dense.width, inner)
    return with_mixtures(dense, moe, inner, lambda _: True, tables)
