"""Llama 2 and 3, and the decoder of their shape that Mistral and Qwen differ from in a few traits.

Tensor names are those of transformers' …ForCausalLM checkpoints. Reads no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    Mlp,
    ModelSpec,
    Norm,
    TensorSource,
)
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.layer_types import Windows, full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole, word


@dataclass(frozen=True, slots=True)
class Traits:
    """In what decoders of this shape differ; `windows` has one entry a block."""

    family: str
    kv_heads: int
    head_dim: int
    windows: Windows
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False


def spec(config: Config) -> ModelSpec:
    """A Llama. Files older than grouped queries have no `num_key_value_heads`: one a head."""
    heads = whole(config, "num_attention_heads")
    has_bias = flag(config, "attention_bias")
    return decoder(
        config,
        Traits(
            family="llama",
            kv_heads=whole(config, "num_key_value_heads", heads),
            head_dim=head_dim(config),
            windows=full_only(config),
            qkv_bias=has_bias,
            o_bias=has_bias,
            mlp_bias=flag(config, "mlp_bias"),
        ),
    )


def head_dim(config: Config) -> int:
    """`head_dim`, or the width shared out evenly among the heads. Raises CheckpointError."""
    width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    if config.get("head_dim") is None and width % heads:
        raise CheckpointError(
            f"config: hidden_size {width} is no multiple of num_attention_heads {heads}, and there "
            "is no head_dim; check config.json"
        )
    return whole(config, "head_dim", max(1, width // heads))


def grouped_kv_heads(config: Config) -> int:
    """`num_key_value_heads` where the key must be there; null means one a head."""
    if "num_key_value_heads" not in config:
        raise CheckpointError("config: num_key_value_heads is missing; check config.json")
    return whole(config, "num_key_value_heads", whole(config, "num_attention_heads"))


def decoder(config: Config, traits: Traits) -> ModelSpec:
    """Embedding, pre-norm blocks with rotary attention and a gated MLP, norm and head.

    Raises CheckpointError for missing or absurd values, NotServed for an unknown activation.
    """
    width, vocabulary = whole(config, "hidden_size"), whole(config, "vocab_size")
    context = whole(config, "max_position_embeddings", most=2**31)
    norm = Norm("rms", number(config, "rms_norm_eps", 1e-6))
    inner = whole(config, "intermediate_size")
    by_window = {
        window: BlockSpec(
            norm=norm,
            attention=_attention(config, traits, norm, window, context),
            mlp=Mlp("gated", _activation(config), inner),
        )
        for window in set(traits.windows)
    }
    embedding = TensorSource(("model.embed_tokens.weight",), (vocabulary, width))
    is_tied = flag(config, "tie_word_embeddings")
    head = (
        TensorSource(embedding.names, embedding.shape, "tied")
        if is_tied
        else TensorSource(("lm_head.weight",), (vocabulary, width))
    )
    final_norm = TensorSource(("model.norm.weight",), (width,))
    blocks = tuple(
        LayerSpec(by_window[window], _block_tensors(traits, by_window[window], width, block))
        for block, window in enumerate(traits.windows)
    )
    return ModelSpec(
        family=traits.family,
        width=width,
        vocabulary=vocabulary,
        context=context,
        layers=(
            LayerSpec(EmbedSpec(vocabulary), {"tokens": embedding}),
            *blocks,
            LayerSpec(HeadSpec(norm, "lm", vocabulary), {"norm": final_norm, "head": head}),
        ),
    )


def _attention(
    config: Config, traits: Traits, norm: Norm, window: int | None, context: int
) -> Attention:
    heads = whole(config, "num_attention_heads")
    if heads % traits.kv_heads:
        raise CheckpointError(
            f"config: num_attention_heads {heads} is no multiple of num_key_value_heads "
            f"{traits.kv_heads}; check config.json"
        )
    return Attention(
        heads=heads,
        kv_heads=traits.kv_heads,
        head_dim=traits.head_dim,
        v_head_dim=traits.head_dim,
        scale=1 / math.sqrt(traits.head_dim),  # exact in IEEE, unlike a power: it is hashed
        window=window,
        qk_norm="head" if traits.qk_norm else "none",
        qk=norm if traits.qk_norm else None,
        rope=rope(config, traits.head_dim, context),
    )


def _activation(config: Config) -> Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]:
    match name := word(config, "hidden_act", "silu"):
        case "silu" | "swish":
            return "silu"
        case "gelu":
            return "gelu"
        case "gelu_new" | "gelu_pytorch_tanh":
            return "gelu_tanh"
        case "relu":
            return "relu"
        case "relu2":
            return "relu2"
        case _:
            raise NotServed(f"hidden_act {name!r} is not served; silu, gelu and relu forms are")


def _block_tensors(
    traits: Traits, block: BlockSpec, width: int, index: int
) -> dict[str, TensorSource]:
    attention = block.attention
    queries = attention.heads * attention.head_dim
    keys = attention.kv_heads * attention.head_dim
    inner = block.mlp.width
    prefix = f"model.layers.{index}"
    table: dict[str, TensorSource] = {}

    def matrix(name: str, path: str, out: int, into: int, has_bias: bool) -> None:
        table[name] = TensorSource((f"{prefix}.{path}.weight",), (out, into))
        if has_bias:
            table[f"{name}.bias"] = TensorSource((f"{prefix}.{path}.bias",), (out,))

    def vector(name: str, path: str, size: int) -> None:
        table[name] = TensorSource((f"{prefix}.{path}.weight",), (size,))

    vector("attention_norm", "input_layernorm", width)
    matrix("q", "self_attn.q_proj", queries, width, traits.qkv_bias)
    matrix("k", "self_attn.k_proj", keys, width, traits.qkv_bias)
    matrix("v", "self_attn.v_proj", keys, width, traits.qkv_bias)
    matrix("o", "self_attn.o_proj", width, queries, traits.o_bias)
    if traits.qk_norm:
        vector("q_norm", "self_attn.q_norm", attention.head_dim)
        vector("k_norm", "self_attn.k_norm", attention.head_dim)
    vector("mlp_norm", "post_attention_layernorm", width)
    matrix("gate", "mlp.gate_proj", inner, width, traits.mlp_bias)
    matrix("up", "mlp.up_proj", inner, width, traits.mlp_bias)
    matrix("down", "mlp.down_proj", width, inner, traits.mlp_bias)
    return table
