"""Qwen2 and 2.5: a Llama with biases on q, k and v, and windows in some layers. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import by_layer
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """A Qwen2."""
    return build(replace(standard(config, "qwen2", windows=by_layer(config)), has_qkv_bias=True))
