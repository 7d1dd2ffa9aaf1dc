"""BioGPT: learned positions from the third row on, a scaled embedding, a plain MLP. No files."""

from __future__ import annotations

import math
from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Names, activation, shared_out, standard
from manyhands.families.layer_types import block_count
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A BioGPT. Its norms have torch's own epsilon, whatever `layer_norm_eps` says."""
    heads = whole(config, "num_attention_heads")
    made = standard(
        config,
        "biogpt",
        kv_heads=heads,
        head_width=shared_out(config),
        norm=Norm("layer", 1e-5),
        acts=activation(config, "hidden_act", "gelu"),
        ropes=(None,) * block_count(config),
    )
    names = Names(
        tokens="biogpt.embed_tokens",
        positions="biogpt.embed_positions",
        blocks="biogpt.layers",
        norm="biogpt.layer_norm",
        head="output_projection",
        attention_norm="self_attn_layer_norm",
        mlp_norm="final_layer_norm",
        o="self_attn.out_proj",
        up="fc1",
        down="fc2",
    )
    return build(
        replace(
            made,
            names=names,
            is_tied=flag(config, "tie_word_embeddings", True),
            mlp="plain",
            embed_scale=math.sqrt(made.width) if flag(config, "scale_embedding", True) else 1.0,
            positions=made.context,
            position_offset=2,
            has_norm_bias=True,
            has_qkv_bias=True,
            has_o_bias=True,
            has_mlp_bias=True,
        )
    )
