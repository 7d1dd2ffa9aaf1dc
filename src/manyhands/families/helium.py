"""Helium: a Llama that rotates neighbouring pairs, with a bias on q, k and v only. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import context, head_dim, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag


def spec(config: Config) -> ModelSpec:
    """A Helium."""
    windows, width = full_only(config), head_dim(config)
    turn = rope(config, width, context(config), theta=100_000.0, interleaved=True)
    made = standard(config, "helium", windows=windows, ropes=(turn,) * len(windows))
    return build(
        replace(
            made,
            has_qkv_bias=flag(config, "attention_bias"),
            has_mlp_bias=flag(config, "mlp_bias"),
        )
    )
