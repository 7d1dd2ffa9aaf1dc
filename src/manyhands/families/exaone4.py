"""Exaone 4: norms only after, norms of each head's queries and keys, positions only in windows."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm, Rope
from manyhands.families.building import build
from manyhands.families.decoder import context, head_dim, standard
from manyhands.families.layer_types import SLIDING, full_only, kinds, windows_of
from manyhands.families.olmo2 import AFTER_ONLY
from manyhands.families.rope import rope
from manyhands.families.values import Config, number, whole


def spec(config: Config) -> ModelSpec:
    """An Exaone 4. Without windows all blocks have rotary positions."""
    turn = rope(config, head_dim(config), context(config))
    if "sliding_window" in config and config["sliding_window"] is None:
        windows = full_only(config)
        ropes: tuple[Rope | None, ...] = (turn,) * len(windows)
    else:
        named = kinds(config, every=whole(config, "sliding_window_pattern", 4))
        windows = windows_of(config, named, 4096)
        ropes = tuple(turn if kind == SLIDING else None for kind in named)
    norm = Norm("rms", number(config, "rms_norm_eps", 1e-5))
    made = standard(config, "exaone4", norm=norm, windows=windows, ropes=ropes)
    return build(replace(made, names=AFTER_ONLY, qk_norm="head", qk=norm))
