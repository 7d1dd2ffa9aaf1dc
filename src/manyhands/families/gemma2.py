"""Gemma 2: a Gemma with norms after, softcaps, a window in every other block. Reads no files."""

from __future__ import annotations

import math
from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, activation, context
from manyhands.families.gemma import gemma
from manyhands.families.layer_types import kinds, windows_of
from manyhands.families.rope import rope
from manyhands.families.values import Config, number, optional_number, whole

AFTER = Names(
    attention_after_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_after_norm="post_feedforward_layernorm",
)


def spec(config: Config) -> ModelSpec:
    """A Gemma 2."""
    return build(replace(gemma2_like(config, "gemma2"), names=AFTER))


def gemma2_like(config: Config, family: str) -> Decoder:
    """A missing softcap means the one Gemma 2 was trained with, null means none."""
    windows = windows_of(config, kinds(config, every=2), 4096)
    turn = rope(config, whole(config, "head_dim", 256), context(config))
    acts = activation(config, "hidden_activation", "gelu_pytorch_tanh")
    return replace(
        gemma(config, family, acts, windows, (turn,) * len(windows)),
        scale=1 / math.sqrt(number(config, "query_pre_attn_scalar", 256)),
        softcap=optional_number(
            {"attn_logit_softcapping": 50.0, **config}, "attn_logit_softcapping"
        ),
        logits_softcap=optional_number(
            {"final_logit_softcapping": 30.0, **config}, "final_logit_softcapping"
        ),
    )
