"""Command R: attention and MLP side by side under one layer norm, scaled logits. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm, Rope
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, context, head_dim, refuse, standard
from manyhands.families.layer_types import Windows, full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A Command R. Norms of queries and keys differ from head to head there: refused."""
    refuse(config, use_qk_norm="a norm of its own for each head")
    windows, width = full_only(config), head_dim(config)
    turn = rope(config, width, context(config), theta=500_000.0, interleaved=True)
    return build(cohere(config, "cohere", width, windows, (turn,) * len(windows)))


def cohere(
    config: Config, family: str, width: int, windows: Windows, ropes: tuple[Rope | None, ...]
) -> Decoder:
    """What the Command models share."""
    heads = whole(config, "num_attention_heads")
    has_bias = flag(config, "attention_bias")
    return replace(
        standard(
            config,
            family,
            kv_heads=whole(config, "num_key_value_heads", heads),
            head_width=width,
            norm=Norm("layer", number(config, "layer_norm_eps", 1e-5)),
            windows=windows,
            ropes=ropes,
        ),
        names=Names(mlp_norm=""),
        flow="parallel",
        is_tied=flag(config, "tie_word_embeddings", True),
        has_qkv_bias=has_bias,
        has_o_bias=has_bias,
        logits_scale=number(config, "logit_scale", 0.0625),
    )
