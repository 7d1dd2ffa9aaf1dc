"""Qwen2 and 2.5: a Llama with biases on q, k and v, and windows in some layers. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.layer_types import by_layer
from manyhands.families.llama import Traits, decoder, grouped_kv_heads, head_dim
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """A Qwen2."""
    return decoder(
        config,
        Traits(
            family="qwen2",
            kv_heads=grouped_kv_heads(config),
            head_dim=head_dim(config),
            windows=by_layer(config),
            qkv_bias=True,
        ),
    )
