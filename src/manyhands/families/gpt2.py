"""GPT-2: learned positions, matrices stored [in, out], q, k, v in one. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, activation, refuse, shared_out
from manyhands.families.layer_types import MOST_BLOCKS
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A GPT-2."""
    refuse(
        config,
        scale_attn_by_inverse_layer_idx="scores scaled by the block's number",
        add_cross_attention="attention to another sequence",
    )
    names = replace(GPT, qkv="attn.c_attn", o="attn.c_proj")
    made = gpt2_sizes(config, "gpt2", "gelu_new")
    return build(
        replace(
            made,
            names=names,
            scale=None if flag(config, "scale_attn_weights", True) else 1.0,
            turned=True,
        )
    )


GPT = Names(
    tokens="transformer.wte",
    positions="transformer.wpe",
    blocks="transformer.h",
    norm="transformer.ln_f",
    attention_norm="ln_1",
    mlp_norm="ln_2",
    up="mlp.c_fc",
    down="mlp.c_proj",
)


def gpt2_sizes(config: Config, family: str, acts: str) -> Decoder:
    """What its kin share: GPT-2's keys, learned positions, layer norms, a plain MLP, biases."""
    width, heads = whole(config, "n_embd"), whole(config, "n_head")
    positions = whole(config, "n_positions")
    blocks = whole(config, "n_layer", most=MOST_BLOCKS)
    return Decoder(
        family=family,
        width=width,
        vocabulary=whole(config, "vocab_size"),
        context=positions,
        heads=heads,
        kv_heads=heads,
        head_dim=shared_out({"hidden_size": width, "n_head": heads}, heads="n_head"),
        inner=whole(config, "n_inner", 4 * width),
        activation=activation(config, "activation_function", acts),
        norm=Norm("layer", number(config, "layer_norm_epsilon", 1e-5)),
        windows=(None,) * blocks,
        ropes=(None,) * blocks,
        is_tied=flag(config, "tie_word_embeddings", True),
        mlp="plain",
        positions=positions,
        has_norm_bias=True,
        has_qkv_bias=True,
        has_o_bias=True,
        has_mlp_bias=True,
    )
