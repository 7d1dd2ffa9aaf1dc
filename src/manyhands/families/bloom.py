"""Bloom: alibi, a norm behind the embedding, q, k, v by head in one matrix. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.alibi import slopes
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, shared_out
from manyhands.families.layer_types import MOST_BLOCKS
from manyhands.families.values import Config, flag, number, whole

CONTEXT = 2048
"""What it was trained on; alibi itself knows no end."""


def spec(config: Config) -> ModelSpec:
    """A Bloom. `n_embed`, `num_attention_heads` and `num_hidden_layers` are other spellings."""
    width = whole(config, "hidden_size", config.get("n_embed"))
    heads = whole(config, "n_head", config.get("num_attention_heads"))
    blocks = whole(config, "n_layer", config.get("num_hidden_layers"), most=MOST_BLOCKS)
    norm = Norm("layer", number(config, "layer_norm_epsilon", 1e-5))
    return build(
        Decoder(
            family="bloom",
            width=width,
            vocabulary=whole(config, "vocab_size"),
            context=whole(config, "seq_length", CONTEXT, most=2**31),
            heads=heads,
            kv_heads=heads,
            head_dim=shared_out({"hidden_size": width, "n_head": heads}, heads="n_head"),
            inner=4 * width,
            activation="gelu_tanh",
            norm=norm,
            windows=(None,) * blocks,
            ropes=(None,) * blocks,
            is_tied=flag(config, "tie_word_embeddings", True),
            names=NAMES,
            mlp="plain",
            alibi=slopes(heads),
            qkv_runs=heads,
            residual_from_norm=flag(config, "apply_residual_connection_post_layernorm"),
            embed_norm=norm,
            has_norm_bias=True,
            has_qkv_bias=True,
            has_o_bias=True,
            has_mlp_bias=True,
        )
    )


NAMES = Names(
    tokens="transformer.word_embeddings",
    embed_norm="transformer.word_embeddings_layernorm",
    blocks="transformer.h",
    norm="transformer.ln_f",
    qkv="self_attention.query_key_value",
    o="self_attention.dense",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
)
