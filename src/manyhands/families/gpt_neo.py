"""GPT-Neo: a GPT-2 with windows in every other block and scores that are not scaled. No files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from manyhands.domain.model_spec import ModelSpec
from manyhands.errors import CheckpointError
from manyhands.families.building import build
from manyhands.families.gpt2 import GPT, gpt2_sizes
from manyhands.families.layer_types import MOST_BLOCKS, Windows
from manyhands.families.values import Config, whole, words


def spec(config: Config) -> ModelSpec:
    """A GPT-Neo."""
    width = whole(config, "hidden_size")
    names = {
        "n_embd": width,
        "n_head": whole(config, "num_heads"),
        "n_layer": whole(config, "num_layers", most=MOST_BLOCKS),
        "n_positions": whole(config, "max_position_embeddings"),
        "n_inner": whole(config, "intermediate_size", 4 * width),
    }
    return build(
        replace(
            gpt2_sizes({**config, **names}, "gpt_neo", "gelu_new"),
            names=replace(
                GPT,
                q="attn.attention.q_proj",
                k="attn.attention.k_proj",
                v="attn.attention.v_proj",
                o="attn.attention.out_proj",
            ),
            windows=_windows(config),
            scale=1.0,
            has_qkv_bias=False,
        )
    )


def _windows(config: Config) -> Windows:
    """`attention_types` is a list of pairs: kinds, and how often they come one after the other.

    `attention_layers`, where files have it too, says it block by block and goes before.
    """
    blocks = whole(config, "num_layers", most=MOST_BLOCKS)
    named: list[Any] = list(words(config, "attention_layers", blocks) or ())
    try:
        for kinds, times in () if named else config.get("attention_types") or ():
            named += list(kinds) * min(times, blocks)
    except (TypeError, ValueError):
        named = []
    if len(named) != blocks or set(map(str, named)) - {"global", "local"}:
        raise CheckpointError(
            f"config: attention_types must name global or local for each of {blocks} blocks, like "
            '[[["global", "local"], 12]]; check config.json'
        )
    window = whole(config, "window_size", 256, most=2**31)
    return tuple(window if kind == "local" else None for kind in named)
