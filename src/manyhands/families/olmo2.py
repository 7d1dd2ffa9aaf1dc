"""OLMo 2: norms only after attention and MLP, and over all queries and all keys. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm, Rope
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, context, head_dim, standard
from manyhands.families.layer_types import Windows, full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number


def spec(config: Config) -> ModelSpec:
    """An OLMo 2."""
    windows = full_only(config)
    ropes = (rope(config, head_dim(config), context(config)),) * len(windows)
    return build(olmo2(config, "olmo2", windows, ropes))


def olmo2(config: Config, family: str, windows: Windows, ropes: tuple[Rope | None, ...]) -> Decoder:
    """What OLMo 2 and 3 share."""
    has_bias = flag(config, "attention_bias")
    norm = Norm("rms", number(config, "rms_norm_eps", 1e-5))
    return replace(
        standard(config, family, norm=norm, windows=windows, ropes=ropes),
        names=AFTER_ONLY,
        qk_norm="whole",
        qk=norm,
        has_qkv_bias=has_bias,
        has_o_bias=has_bias,
    )


AFTER_ONLY = Names(
    attention_norm="",
    attention_after_norm="post_attention_layernorm",
    mlp_norm="",
    mlp_after_norm="post_feedforward_layernorm",
)
