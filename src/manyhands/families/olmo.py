"""OLMo: a Llama whose norms have no weights. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import refuse, standard
from manyhands.families.values import Config, flag


def spec(config: Config) -> ModelSpec:
    """An OLMo."""
    refuse(config, to=None, clip_qkv="queries, keys and values cut off")
    has_bias = flag(config, "attention_bias")
    made = standard(config, "olmo", norm=Norm("layer", 1e-5, bare=True))
    return build(replace(made, has_qkv_bias=has_bias, has_o_bias=has_bias))
