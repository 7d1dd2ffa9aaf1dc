"""Mistral: a Llama whose blocks may all attend through one sliding window. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import one_for_all
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """A Mistral. A config without `sliding_window` means 4096, one with null means all tokens."""
    return build(standard(config, "mistral", windows=one_for_all(config, default=4096)))
