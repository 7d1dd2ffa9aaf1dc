"""DINOv2 with tokens that stand for nothing behind the class token. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.dinov2 import shaped
from manyhands.families.values import Config, whole

ARCHITECTURES = ("Model",)


def spec(config: Config) -> ModelSpec:
    """A DINOv2 with registers."""
    return shaped(config, "dinov2_with_registers", whole(config, "num_register_tokens", 4, least=0))
