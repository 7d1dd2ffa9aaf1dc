"""VaultGemma: a Gemma 2 without the norms after attention and MLP. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Names
from manyhands.families.gemma2 import gemma2_like
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """A VaultGemma."""
    names = Names(mlp_norm="pre_feedforward_layernorm")
    return build(replace(gemma2_like(config, "vaultgemma"), names=names))
