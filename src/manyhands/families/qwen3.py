"""Qwen3: a Llama with norms on each head's queries and keys, windows in some layers. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import by_layer
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A Qwen3. Its `head_dim` is 128 unless said, whatever the width."""
    has_bias = flag(config, "attention_bias")
    made = standard(
        config, "qwen3", windows=by_layer(config), head_width=whole(config, "head_dim", 128)
    )
    return build(
        replace(made, has_qkv_bias=has_bias, has_o_bias=has_bias, qk_norm="head", qk=made.norm)
    )
