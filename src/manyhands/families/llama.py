"""Llama 2 and 3: norms before, grouped queries, rotary positions, a gated MLP. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, standard
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A Llama."""
    return build(llama(config, "llama"))


def llama(config: Config, family: str) -> Decoder:
    """Files older than grouped queries have no `num_key_value_heads`: one a head."""
    heads = whole(config, "num_attention_heads")
    has_bias = flag(config, "attention_bias")
    return replace(
        standard(config, family, kv_heads=whole(config, "num_key_value_heads", heads)),
        has_qkv_bias=has_bias,
        has_o_bias=has_bias,
        has_mlp_bias=flag(config, "mlp_bias"),
    )
