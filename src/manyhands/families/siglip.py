"""SigLIP, of which the tower for images is computed; the one for texts is not. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.siglip_vision_model import tower
from manyhands.families.values import Config, section

ARCHITECTURES = ("SiglipModel",)


def spec(config: Config) -> ModelSpec:
    """The tower for images of a whole SigLIP, whose config leaves out what is as in the base."""
    return tower(section(config, "vision_config"), "siglip", "vision_model.")
