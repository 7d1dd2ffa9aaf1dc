"""GLM 4 of 0414: a GLM with norms after attention and MLP as well. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Names
from manyhands.families.glm import glm
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """A GLM 4 0414."""
    names = Names(
        attention_after_norm="post_self_attn_layernorm",
        mlp_after_norm="post_mlp_layernorm",
        gate_up="mlp.gate_up_proj",
    )
    return build(replace(glm(config, "glm4"), names=names))
