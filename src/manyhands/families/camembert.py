"""CamemBERT: a RoBERTa of French. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families import encoder
from manyhands.families.roberta import shaped
from manyhands.families.values import Config

ARCHITECTURES = encoder.SERVED


def spec(config: Config) -> ModelSpec:
    """A CamemBERT."""
    return shaped(config, "camembert")
