"""DeepSeek-V3: latent attention, sigmoid-routed experts in groups, one shared; FP8 files. No files.

Also the latent decoder that DeepSeek-V2 differs from in its router only.
"""

from __future__ import annotations

import math
from dataclasses import replace

from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    Latent,
    LayerSpec,
    ModelSpec,
    Moe,
    Norm,
    TensorSource,
)
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.fp8 import with_fp8
from manyhands.families.mixture import (
    Names,
    checked_groups,
    chosen_count,
    expert_count,
    expert_tensors,
    refuse_other,
    shared_width,
    with_mixtures,
)
from manyhands.families.rope import softmax_factor
from manyhands.families.values import Config, flag, number, whole, with_defaults

READS_QUANTISED = ("fp8",)
"""What `quantization_config` may say: matrices as 8-bit floats with a factor a block."""

KNOWN_CODE = ("modeling_deepseek.DeepseekV3ForCausalLM",)
"""What `auto_map` may name: the same model, which is computed here without that code."""

NAMES = Names(correction="gate.e_score_correction_bias", shared="shared_experts")

_LATENT_EPS = 1e-6
"""Of the norms inside the attention, whatever rms_norm_eps says."""


def spec(config: Config) -> ModelSpec:
    """A DeepSeek-V3 (also R1 and V3.1). Its layers of multi-token prediction are not read."""
    config = with_defaults(
        config,
        first_k_dense_replace=3,
        n_group=8,
        topk_group=4,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        n_shared_experts=1,
    )
    refuse_other(config, "scoring_func", "sigmoid")
    refuse_other(config, "topk_method", "noaux_tc")
    experts = expert_count(config, "n_routed_experts", "num_local_experts")
    moe = Moe(
        experts,
        chosen_count(config, experts),
        "sigmoid",
        renormalise=flag(config, "norm_topk_prob"),
        scale=number(config, "routed_scaling_factor"),
        groups=whole(config, "n_group"),
        top_groups=whole(config, "topk_group"),
        shared_width=shared_width(config),
    )
    is_interleaved = flag(config, "rope_interleave", True)
    model = latent_decoder(config, "deepseek_v3", checked_groups(moe), NAMES, is_interleaved)
    return with_fp8(model, config)


def latent_decoder(
    config: Config, family: str, moe: Moe, names: Names, is_interleaved: bool
) -> ModelSpec:
    """A decoder with latent attention, whose first blocks are dense and the others mixtures."""
    refuse_other(config, "moe_layer_freq", 1)
    heads = whole(config, "num_attention_heads")
    is_direct = "q_lora_rank" in config and config["q_lora_rank"] is None
    latent = Latent(
        q_rank=None if is_direct else whole(config, "q_lora_rank"),
        kv_rank=whole(config, "kv_lora_rank"),
        nope=whole(config, "qk_nope_head_dim"),
        rope=whole(config, "qk_rope_head_dim"),
    )
    dense = build(standard(config, family, kv_heads=heads, head_width=latent.rope))
    inner = whole(config, "moe_intermediate_size")
    first = whole(config, "first_k_dense_replace", 0, least=0)
    tables = expert_tensors(names, moe, dense.width, inner)
    mixed = with_mixtures(dense, moe, inner, lambda block: block >= first, tables)
    layers = [
        _with_latent(layer, place - 1, config, latent, is_interleaved)
        for place, layer in enumerate(mixed.layers)
    ]
    return replace(mixed, layers=tuple(layers))


def _with_latent(
    layer: LayerSpec, block: int, config: Config, latent: Latent, is_interleaved: bool
) -> LayerSpec:
    if not isinstance(layer.part, BlockSpec):
        return layer
    plain = layer.part.attention
    width = latent.nope + latent.rope
    attention = replace(
        plain,
        head_dim=width,
        v_head_dim=whole(config, "v_head_dim"),
        scale=softmax_factor(config) / math.sqrt(width),
        qk=Norm("rms", _LATENT_EPS),
        rope=None if plain.rope is None else replace(plain.rope, interleaved=is_interleaved),
        latent=latent,
    )
    kept = {name: source for name, source in layer.tensors.items() if name not in ("q", "k", "v")}
    tensors = {**kept, **_tensors(config, f"model.layers.{block}.self_attn", attention, latent)}
    return LayerSpec(replace(layer.part, attention=attention), tensors)


def _tensors(
    config: Config, prefix: str, attention: Attention, latent: Latent
) -> dict[str, TensorSource]:
    width, has_bias = whole(config, "hidden_size"), flag(config, "attention_bias")
    queries = attention.heads * attention.head_dim
    values = attention.heads * attention.v_head_dim
    table: dict[str, TensorSource] = {}

    def matrix(name: str, path: str, out: int, into: int, bias: bool = False) -> None:
        table[name] = TensorSource((f"{prefix}.{path}.weight",), (out, into))
        if bias:
            table[f"{name}.bias"] = TensorSource((f"{prefix}.{path}.bias",), (out,))

    if latent.q_rank is None:
        matrix("q", "q_proj", queries, width)
    else:
        matrix("q_down", "q_a_proj", latent.q_rank, width, has_bias)
        table["q_norm"] = TensorSource((f"{prefix}.q_a_layernorm.weight",), (latent.q_rank,))
        matrix("q_up", "q_b_proj", queries, latent.q_rank)
    down = latent.kv_rank + latent.rope
    matrix("kv_down", "kv_a_proj_with_mqa", down, width, has_bias)
    table["k_norm"] = TensorSource((f"{prefix}.kv_a_layernorm.weight",), (latent.kv_rank,))
    up = attention.heads * (latent.nope + attention.v_head_dim)
    matrix("kv_up", "kv_b_proj", up, latent.kv_rank)
    matrix("o", "o_proj", width, values, has_bias)
    return table
