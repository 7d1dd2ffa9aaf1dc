"""Seed-OSS: a Llama whose output projection has a bias of its own switch. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A Seed-OSS. Its `head_dim` is 128 unless said."""
    return build(
        replace(
            standard(config, "seed_oss", head_width=whole(config, "head_dim", 128)),
            has_qkv_bias=flag(config, "attention_bias", True),
            has_o_bias=flag(config, "attention_out_bias"),
            has_mlp_bias=flag(config, "mlp_bias"),
        )
    )
