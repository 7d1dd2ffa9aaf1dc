"""Persimmon: layer norms of heads, q, k, v by head in one matrix. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Names, activation, context, shared_out, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A Persimmon."""
    windows, width = full_only(config), shared_out(config)
    turn = rope(config, width, context(config), turned=0.5)
    heads = whole(config, "num_attention_heads")
    norm = Norm("layer", number(config, "layer_norm_eps", 1e-5))
    has_qk_norm = flag(config, "qk_layernorm", True)
    made = standard(
        config,
        "persimmon",
        kv_heads=heads,
        head_width=width,
        norm=norm,
        acts=activation(config, "hidden_act", "relu2"),
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    names = Names(
        norm="model.final_layernorm",
        qkv="self_attn.query_key_value",
        o="self_attn.dense",
        q_norm="self_attn.q_layernorm",
        k_norm="self_attn.k_layernorm",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
    )
    return build(
        replace(
            made,
            names=names,
            mlp="plain",
            qk_norm="head" if has_qk_norm else "none",
            qk=norm if has_qk_norm else None,
            qkv_runs=heads,
            has_norm_bias=True,
            has_qk_norm_bias=True,
            has_qkv_bias=True,
            has_o_bias=True,
            has_mlp_bias=True,
        )
    )
