"""Ernie 4.5: a Llama that rotates neighbouring pairs, one switch for all biases. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import context, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """An Ernie 4.5. Its `head_dim` is 128 unless said."""
    windows, width = full_only(config), whole(config, "head_dim", 128)
    turn = rope(config, width, context(config), theta=500_000.0, interleaved=True)
    has_bias = flag(config, "use_bias")
    made = standard(
        config, "ernie4_5", head_width=width, windows=windows, ropes=(turn,) * len(windows)
    )
    return build(replace(made, has_qkv_bias=has_bias, has_o_bias=has_bias, has_mlp_bias=has_bias))
