"""Phi 1 and 2: attention and MLP side by side under one layer norm, biases all over. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Names, activation, context, head_dim, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A Phi."""
    windows, width = full_only(config), head_dim(config)
    turn = rope(config, width, context(config), turned=0.5)
    heads = whole(config, "num_attention_heads")
    norm = Norm("layer", number(config, "layer_norm_eps", 1e-5))
    made = standard(
        config,
        "phi",
        kv_heads=whole(config, "num_key_value_heads", heads),
        head_width=width,
        norm=norm,
        acts=activation(config, "hidden_act", "gelu_new"),
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    names = Names(
        norm="model.final_layernorm",
        mlp_norm="",
        o="self_attn.dense",
        q_norm="self_attn.q_layernorm",
        k_norm="self_attn.k_layernorm",
        up="mlp.fc1",
        down="mlp.fc2",
    )
    return build(
        replace(
            made,
            names=names,
            flow="parallel",
            mlp="plain",
            qk_norm="head" if flag(config, "qk_layernorm") else "none",
            qk=norm if flag(config, "qk_layernorm") else None,
            has_norm_bias=True,
            has_qk_norm_bias=True,
            has_qkv_bias=True,
            has_o_bias=True,
            has_mlp_bias=True,
            has_head_bias=True,
        )
    )
