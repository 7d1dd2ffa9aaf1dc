"""Falcon: in parallel with one norm (7B) or two (40B), in turn with alibi (RW). Reads no files."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.errors import NotServed
from manyhands.families.alibi import slopes
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names, activation, shared_out
from manyhands.families.layer_types import block_count
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A Falcon. Its alibi is added before scores are scaled, its slopes are kept as bfloat16."""
    width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    head_dim, blocks = shared_out(config), block_count(config)
    is_grouped = flag(config, "new_decoder_architecture")
    kv_heads = _kv_heads(config, is_grouped)
    has_alibi = flag(config, "alibi")
    turn = None if has_alibi else rope(config, head_dim, _context(config))
    has_bias = flag(config, "bias")
    names, flow = _flow(config, is_grouped)
    return build(
        Decoder(
            family="falcon",
            width=width,
            vocabulary=whole(config, "vocab_size"),
            context=_context(config),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            inner=whole(config, "ffn_hidden_size", 4 * width),
            activation=activation(config, "activation", "gelu"),
            norm=Norm("layer", number(config, "layer_norm_epsilon", 1e-5)),
            windows=(None,) * blocks,
            ropes=(turn,) * blocks,
            is_tied=flag(config, "tie_word_embeddings", True),
            names=names,
            flow=flow,
            mlp="plain",
            alibi=_slopes(heads, head_dim) if has_alibi else None,
            qkv_runs=kv_heads,
            has_norm_bias=True,
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            has_mlp_bias=has_bias,
        )
    )


def _context(config: Config) -> int:
    """The first Falcons' files do not say it."""
    return whole(config, "max_position_embeddings", 2048, most=2**31)


def _kv_heads(config: Config, is_grouped: bool) -> int:
    heads = whole(config, "num_attention_heads")
    if is_grouped:
        return whole(config, "num_kv_heads", heads)
    return 1 if flag(config, "multi_query", True) else heads


def _flow(config: Config, is_grouped: bool) -> tuple[Names, Literal["pre", "parallel"]]:
    if not flag(config, "parallel_attn", True):
        if is_grouped:
            raise NotServed("parallel_attn false with new_decoder_architecture is not served")
        return NAMES, "pre"
    norms = whole(config, "num_ln_in_parallel_attn", 2 if is_grouped else 1, most=2)
    if norms == 2 and is_grouped:
        return replace(NAMES, attention_norm="ln_attn", mlp_norm="ln_mlp"), "parallel"
    if norms == 2:
        raise NotServed("num_ln_in_parallel_attn 2 without new_decoder_architecture is not served")
    return replace(NAMES, mlp_norm=""), "parallel"


def _slopes(heads: int, head_dim: int) -> tuple[float, ...]:
    return tuple(_bfloat16(slope) / math.sqrt(head_dim) for slope in slopes(heads))


def _bfloat16(value: float) -> float:
    """The nearest number with 8 bits of mantissa, ties to even, as Python rounds."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 256), exponent - 8)


NAMES = Names(
    tokens="transformer.word_embeddings",
    blocks="transformer.h",
    norm="transformer.ln_f",
    qkv="self_attention.query_key_value",
    o="self_attention.dense",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
)
