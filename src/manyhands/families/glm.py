"""GLM 4: half of each head turned in neighbouring pairs, gate and up in one matrix. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, context, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A GLM."""
    return build(replace(glm(config, "glm"), names=Names(gate_up="mlp.gate_up_proj")))


def glm(config: Config, family: str) -> Decoder:
    """What the GLMs share."""
    windows, width = full_only(config), whole(config, "head_dim", 128)
    turn = rope(config, width, context(config), turned=0.5, interleaved=True)
    return replace(
        standard(config, family, head_width=width, windows=windows, ropes=(turn,) * len(windows)),
        has_qkv_bias=flag(config, "attention_bias", True),
    )
