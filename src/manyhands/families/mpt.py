"""MPT: alibi, q, k, v under each other in one matrix, no biases anywhere. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.alibi import slopes_below
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, refuse, shared_out
from manyhands.families.layer_types import MOST_BLOCKS
from manyhands.families.values import Config, flag, number, optional_number, section, whole

STEEPEST = 8
"""The last head's slope is 2 to the minus this."""


def spec(config: Config) -> ModelSpec:
    """An MPT. transformers computes one form whatever the switches say: others are refused."""
    inside = section(config, "attn_config")
    refuse(config, to=True, no_bias="biases")
    refuse(config, to=4, expansion_ratio="another width inside the MLP")
    refuse(config, to=None, logit_scale="scaled logits")
    refuse(inside, to=True, alibi="learned positions")
    refuse(inside, to="multihead_attention", attn_type="shared key heads")
    refuse(inside, to=STEEPEST, alibi_bias_max="other slopes than transformers computes")
    refuse(inside, qk_ln="norms of queries and keys", prefix_lm="attention that is not causal")
    refuse(inside, to=None, clip_qkv="queries, keys and values cut off")
    width, heads = whole(config, "d_model"), whole(config, "n_heads")
    blocks = whole(config, "n_layers", most=MOST_BLOCKS)
    return build(
        Decoder(
            family="mpt",
            width=width,
            vocabulary=whole(config, "vocab_size"),
            context=whole(config, "max_seq_len", most=2**31),
            heads=heads,
            kv_heads=heads,
            head_dim=shared_out({"hidden_size": width, "n_heads": heads}, heads="n_heads"),
            inner=4 * width,
            activation="gelu",
            norm=Norm("layer", number(config, "layer_norm_epsilon", 1e-5)),
            windows=(None,) * blocks,
            ropes=(None,) * blocks,
            is_tied=flag(config, "tie_word_embeddings", True),
            names=NAMES,
            mlp="plain",
            scale=optional_number(inside, "softmax_scale"),
            alibi=slopes_below(heads, STEEPEST),
        )
    )


NAMES = Names(
    tokens="transformer.wte",
    blocks="transformer.blocks",
    norm="transformer.norm_f",
    attention_norm="norm_1",
    mlp_norm="norm_2",
    qkv="attn.Wqkv",
    o="attn.out_proj",
    up="ffn.up_proj",
    down="ffn.down_proj",
)
