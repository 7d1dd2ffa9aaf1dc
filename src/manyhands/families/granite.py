"""Granite: a Llama with a multiplier on embedding, scores, residuals and logits. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.llama import llama
from manyhands.families.values import Config, number


def spec(config: Config) -> ModelSpec:
    """A Granite. `logits_scaling` divides."""
    return build(
        replace(
            llama(config, "granite"),
            scale=number(config, "attention_multiplier", 1.0),
            residual_scale=number(config, "residual_multiplier", 1.0),
            embed_scale=number(config, "embedding_multiplier", 1.0),
            logits_scale=1 / number(config, "logits_scaling", 1.0),
        )
    )
