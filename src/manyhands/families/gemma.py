"""Gemma: a Llama whose norms multiply by (1 + weight), its embedding scaled. Reads no files."""

from __future__ import annotations

import math
from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm, Rope
from manyhands.families.building import build
from manyhands.families.decoder import Activation, Decoder, activation, context, refuse, standard
from manyhands.families.layer_types import Windows, full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A Gemma. Where `hidden_act` of the first files says gelu, its tanh form was meant."""
    acts = activation({"hidden_act": "gelu_pytorch_tanh", **config}, "hidden_act")
    windows, width = full_only(config), whole(config, "head_dim", 256)
    ropes = (rope(config, width, context(config)),) * len(windows)
    return build(gemma(config, "gemma", "gelu_tanh" if acts == "gelu" else acts, windows, ropes))


def gemma(
    config: Config,
    family: str,
    acts: Activation,
    windows: Windows,
    ropes: tuple[Rope | None, ...],
) -> Decoder:
    """What all Gemmas share."""
    refuse(config, use_bidirectional_attention="attention that is not causal")
    has_bias = flag(config, "attention_bias")
    made = standard(
        config,
        family,
        head_width=whole(config, "head_dim", 256),
        norm=Norm("rms", number(config, "rms_norm_eps", 1e-6), plus_one=True),
        acts=acts,
        windows=windows,
        ropes=ropes,
    )
    return replace(
        made,
        is_tied=flag(config, "tie_word_embeddings", True),
        embed_scale=math.sqrt(made.width),
        has_qkv_bias=has_bias,
        has_o_bias=has_bias,
    )
