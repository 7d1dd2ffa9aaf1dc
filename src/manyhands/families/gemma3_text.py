"""Gemma 3's language model: norms of queries and keys, two ropes, five windows in six blocks."""

from __future__ import annotations

import math
from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Rope
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, activation, context, refuse
from manyhands.families.gemma import gemma
from manyhands.families.gemma2 import AFTER
from manyhands.families.layer_types import SLIDING, kinds, windows_of
from manyhands.families.rope import rope
from manyhands.families.values import Config, number, optional_number, section, whole


def spec(config: Config) -> ModelSpec:
    """A Gemma 3 without its eyes."""
    return build(text(config, "gemma3_text"))


def text(config: Config, family: str) -> Decoder:
    """A Gemma 3; `rope_theta`, `rope_scaling` and `rope_local_base_freq` are its older spelling.

    transformers computes no softcap of its scores, whatever the config says: refused.
    """
    refuse(config, attn_logit_softcapping="a softcap of scores")
    named = kinds(config, every=whole(config, "sliding_window_pattern", 6))
    windows = windows_of(config, named, 4096)
    by_kind = {kind: _rope(config, kind) for kind in set(named)}
    acts = activation(config, "hidden_activation", "gelu_pytorch_tanh")
    ropes = tuple(by_kind[kind] for kind in named)
    made = gemma(config, family, acts, windows, ropes)
    return replace(
        made,
        names=AFTER,
        scale=1 / math.sqrt(number(config, "query_pre_attn_scalar", 256)),
        qk_norm="head",
        qk=made.norm,
        logits_softcap=optional_number(config, "final_logit_softcapping"),
    )


def _rope(config: Config, kind: str) -> Rope:
    width = whole(config, "head_dim", 256)
    if section(config, "rope_parameters"):  # and then no `rope_scaling`, or `rope` refuses
        return rope(config, width, context(config), layer_type=kind)
    if kind == SLIDING:
        local = {"rope_theta": number(config, "rope_local_base_freq", 10_000.0)}
        return rope(local, width, context(config))
    return rope(config, width, context(config), theta=1_000_000.0)
