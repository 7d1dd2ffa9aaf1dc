"""Command R7B and A: a Command R whose full blocks have no positions. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.cohere import cohere
from manyhands.families.decoder import context, shared_out
from manyhands.families.layer_types import SLIDING, kinds, windows_of
from manyhands.families.rope import rope
from manyhands.families.values import Config, whole


def spec(config: Config) -> ModelSpec:
    """A Command R7B. Its `head_dim` is the width over the heads, whatever the config says."""
    width = shared_out(config)
    turn = rope(config, width, context(config), interleaved=True)
    named = kinds(config, every=whole(config, "sliding_window_pattern", 4))
    ropes = tuple(turn if kind == SLIDING else None for kind in named)
    return build(cohere(config, "cohere2", width, windows_of(config, named, 4096), ropes))
