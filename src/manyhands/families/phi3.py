"""Phi-3 and Phi-4: a Llama whose q, k, v lie in one matrix, gate and up in another. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Names, context, shared_out, standard
from manyhands.families.layer_types import full_only, one_for_all
from manyhands.families.rope import rope
from manyhands.families.values import Config, section, whole


def spec(config: Config) -> ModelSpec:
    """A Phi-3. Old files call longrope "su" or "yarn"."""
    windows = full_only(config)
    if config.get("sliding_window") is not None:
        windows = one_for_all(config, default=4096)
    width = shared_out(config)
    turn = rope(_renamed(config), width, context(config), turned=1.0)
    heads = whole(config, "num_attention_heads")
    made = standard(
        config,
        "phi3",
        kv_heads=whole(config, "num_key_value_heads", heads),
        head_width=width,
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    return build(replace(made, names=Names(qkv="self_attn.qkv_proj", gate_up="mlp.gate_up_proj")))


def _renamed(config: Config) -> Config:
    """The config with longrope called longrope, and the original context where `rope` looks."""
    for key in ("rope_scaling", "rope_parameters"):
        values = section(config, key)
        kind = values.get("rope_type", values.get("type"))
        if kind in ("su", "yarn"):
            config = {**config, key: {**values, "rope_type": "longrope"}}
    return config
