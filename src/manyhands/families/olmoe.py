"""OLMoE: a Llama with mixtures of experts and norms over whole queries and keys. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import BlockSpec, LayerSpec, ModelSpec, Moe, TensorSource
from manyhands.errors import NotServed
from manyhands.families.layer_types import full_only
from manyhands.families.llama import Traits, decoder, head_dim
from manyhands.families.mixture import (
    Names,
    chosen_count,
    expert_count,
    expert_tensors,
    with_mixtures,
)
from manyhands.families.values import Config, flag, whole, with_defaults


def spec(config: Config) -> ModelSpec:
    """An OLMoE. Every block is a mixture."""
    if config.get("clip_qkv") is not None:
        raise NotServed("clip_qkv is not served; use a model whose config has null there")
    config = with_defaults(config, rms_norm_eps=1e-5, num_experts_per_tok=8)
    heads, has_bias = whole(config, "num_attention_heads"), flag(config, "attention_bias")
    dense = decoder(
        config,
        Traits(
            family="olmoe",
            kv_heads=whole(config, "num_key_value_heads", heads),
            head_dim=head_dim(config),
            windows=full_only(config),
            qkv_bias=has_bias,
            o_bias=has_bias,
        ),
    )
    experts = expert_count(config, "num_experts", "num_local_experts")
    moe = Moe(
        experts,
        chosen_count(config, experts),
        "softmax",
        renormalise=flag(config, "norm_topk_prob"),
    )
    inner = whole(config, "intermediate_size")
    tables = expert_tensors(Names(), moe, dense.width, inner)
    mixed = with_mixtures(dense, moe, inner, lambda _: True, tables)
    layers = [_normed(layer, place - 1) for place, layer in enumerate(mixed.layers)]
    return replace(mixed, layers=tuple(layers))


def _normed(layer: LayerSpec, block: int) -> LayerSpec:
    """A block's layer with its norms of queries and keys; other layers as they are."""
    if not isinstance(layer.part, BlockSpec):
        return layer
    attention = replace(layer.part.attention, qk_norm="whole", qk=layer.part.norm)
    norms = {
        f"{name}_norm": TensorSource(
            (f"model.layers.{block}.self_attn.{name}_norm.weight",), (heads * attention.head_dim,)
        )
        for name, heads in (("q", attention.heads), ("k", attention.kv_heads))
    }
    return LayerSpec(replace(layer.part, attention=attention), {**layer.tensors, **norms})
