"""Ministral: a Mistral that names each block's type of attention. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import full_only, kinds, windows_of
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """A Ministral. Without `layer_types` all blocks have the window, if there is one."""
    is_full = config.get("layer_types") is None and config.get("sliding_window", 4096) is None
    windows = full_only(config) if is_full else windows_of(config, kinds(config, every=0), 4096)
    return build(standard(config, "ministral", windows=windows))
