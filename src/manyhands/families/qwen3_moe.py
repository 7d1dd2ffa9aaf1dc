"""Qwen3-MoE: a Qwen3 with mixtures of experts in most blocks. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Moe
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.fp8 import with_fp8
from manyhands.families.layer_types import block_count
from manyhands.families.mixture import (
    Names,
    chosen_count,
    expert_count,
    expert_tensors,
    sparse_steps,
    with_mixtures,
)
from manyhands.families.values import Config, flag, whole, with_defaults

READS_QUANTISED = ("fp8",)
"""What `quantization_config` may say: matrices as 8-bit floats with a factor a block."""


def spec(config: Config) -> ModelSpec:
    """A Qwen3-MoE. With `use_sliding_window` all blocks attend through the window."""
    config = with_defaults(config, num_experts_per_tok=8, moe_intermediate_size=768)
    has_window = flag(config, "use_sliding_window") and config.get("sliding_window", 0) is not None
    window = whole(config, "sliding_window", 4096, most=2**31) if has_window else None
    has_bias = flag(config, "attention_bias")
    made = standard(config, "qwen3_moe", windows=(window,) * block_count(config))
    dense = build(
        replace(made, has_qkv_bias=has_bias, has_o_bias=has_bias, qk_norm="head", qk=made.norm)
    )
    experts = expert_count(config, "num_experts", "num_local_experts")
    moe = Moe(
        experts,
        chosen_count(config, experts),
        "softmax",
        renormalise=flag(config, "norm_topk_prob"),
    )
    inner = whole(config, "moe_intermediate_size")
    tables = expert_tensors(Names(), moe, dense.width, inner)
    return with_fp8(with_mixtures(dense, moe, inner, sparse_steps(config), tables), config)
