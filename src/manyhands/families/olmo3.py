"""OLMo 3: an OLMo 2 with windows in three blocks of four, a rope for each kind. No files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec, Rope
from manyhands.families.building import build
from manyhands.families.decoder import context, head_dim
from manyhands.families.layer_types import SLIDING, kinds, windows_of
from manyhands.families.olmo2 import olmo2
from manyhands.families.rope import rope
from manyhands.families.values import Config, section


def spec(config: Config) -> ModelSpec:
    """An OLMo 3; the older spelling scales the rope of full blocks only."""
    named = kinds(config, every=4)
    by_kind = {kind: _rope(config, kind) for kind in set(named)}
    ropes = tuple(by_kind[kind] for kind in named)
    return build(olmo2(config, "olmo3", windows_of(config, named, 4096), ropes))


def _rope(config: Config, kind: str) -> Rope:
    if kind == SLIDING and not section(config, "rope_parameters"):
        config = {**config, "rope_scaling": None}
    return rope(config, head_dim(config), context(config), layer_type=kind, theta=500_000.0)
