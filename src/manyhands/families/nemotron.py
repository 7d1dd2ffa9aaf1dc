"""Nemotron: layer norms times (1 + weight), half of each head turned, a plain MLP. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import activation, context, head_dim, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A Nemotron."""
    windows = full_only(config)
    turn = rope(config, head_dim(config), context(config), turned=0.5)
    has_bias = flag(config, "attention_bias")
    made = standard(
        config,
        "nemotron",
        kv_heads=whole(config, "num_key_value_heads", whole(config, "num_attention_heads")),
        norm=Norm("layer", number(config, "norm_eps", 1e-5), plus_one=True),
        acts=activation(config, "hidden_act", "relu2"),
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    return build(
        replace(
            made,
            mlp="plain",
            has_norm_bias=True,
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            has_mlp_bias=flag(config, "mlp_bias"),
        )
    )
