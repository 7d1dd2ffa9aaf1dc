"""Qwen3: a Llama with norms on each head's queries and keys, windows in some layers. No files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.layer_types import by_layer
from manyhands.families.llama import Traits, decoder, grouped_kv_heads
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A Qwen3. Its `head_dim` is 128 unless said, whatever the width."""
    has_bias = flag(config, "attention_bias")
    return decoder(
        config,
        Traits(
            family="qwen3",
            kv_heads=grouped_kv_heads(config),
            head_dim=whole(config, "head_dim", 128),
            windows=by_layer(config),
            qkv_bias=has_bias,
            o_bias=has_bias,
            qk_norm=True,
        ),
    )
