"""Mistral: a Llama whose blocks may all attend through one sliding window. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.layer_types import one_for_all
from manyhands.families.llama import Traits, decoder, grouped_kv_heads, head_dim
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """A Mistral. A config without `sliding_window` means 4096, one with null means all tokens."""
    return decoder(
        config,
        Traits(
            family="mistral",
            kv_heads=grouped_kv_heads(config),
            head_dim=head_dim(config),
            windows=one_for_all(config, default=4096),
        ),
    )
