"""XLM-RoBERTa (and so multilingual E5, BGE-M3): a RoBERTa of many languages. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families import encoder
from manyhands.families.roberta import shaped
from manyhands.families.values import Config

ARCHITECTURES = encoder.SERVED


def spec(config: Config) -> ModelSpec:
    """An XLM-RoBERTa."""
    return shaped(config, "xlm_roberta")
