"""gpt-oss: mixtures with biases and a clamped gate, sinks, windows in turn. Reads no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from manyhands.domain.model_spec import BlockSpec, LayerSpec, ModelSpec, Moe, TensorSource
from manyhands.errors import NotServed
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import block_count
from manyhands.families.mixture import chosen_count, expert_count, with_mixtures
from manyhands.families.values import Config, flag, number, section, whole, with_defaults, words

READS_QUANTISED = ("mxfp4",)
"""What `quantization_config` may say: experts as 4-bit floats, everything else plain."""

_YARN = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
"""What a config without any rope values means."""


def spec(config: Config) -> ModelSpec:
    """A gpt-oss. `layer_types` says which blocks have the window; without it every other one."""
    config = with_defaults(
        config, rms_norm_eps=1e-5, head_dim=64, sliding_window=128, rope_theta=150000.0
    )
    if not section(config, "rope_scaling"):
        config = with_defaults(config, rope_parameters=_YARN)
    has_bias = flag(config, "attention_bias", True)
    heads = whole(config, "num_attention_heads")
    dense = build(
        replace(
            standard(
                config,
                "gpt_oss",
                kv_heads=whole(config, "num_key_value_heads", heads),
                head_width=whole(config, "head_dim"),
                windows=_windows(config),
            ),
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
        )
    )
    experts = expert_count(config, "num_local_experts", "num_experts")
    top_k = chosen_count(config, experts)
    moe = Moe(experts, top_k, "softmax", softmax_after_topk=True)
    inner = whole(config, "intermediate_size")
    tables = _tensors(experts, dense.width, inner, bool(section(config, "quantization_config")))
    mixed = with_mixtures(dense, moe, inner, lambda _: True, tables)
    limit, alpha = number(config, "swiglu_limit", 7.0), number(config, "swiglu_alpha", 1.702)
    layers = [_finished(layer, place - 1, limit, alpha) for place, layer in enumerate(mixed.layers)]
    return replace(mixed, layers=tuple(layers))


def _windows(config: Config) -> tuple[int | None, ...]:
    blocks = block_count(config)
    named = words(config, "layer_types", blocks)
    if named is None:
        named = tuple(("sliding_attention", "full_attention")[block % 2] for block in range(blocks))
    unknown = set(named) - {"full_attention", "sliding_attention"}
    if unknown:
        raise NotServed(f"layer_types {', '.join(sorted(unknown))} are not served for this family")
    window = whole(config, "sliding_window", most=2**31)
    return tuple(window if kind == "sliding_attention" else None for kind in named)


def _finished(layer: LayerSpec, block: int, limit: float, alpha: float) -> LayerSpec:
    """A block's layer with its sinks and its kind of gate; other layers as they are."""
    if not isinstance(layer.part, BlockSpec):
        return layer
    attention = replace(layer.part.attention, sinks=True)
    mlp = replace(layer.part.mlp, activation="swiglu_oai", limit=limit, alpha=alpha)
    sinks = TensorSource((f"model.layers.{block}.self_attn.sinks",), (attention.heads,))
    part = replace(layer.part, attention=attention, mlp=mlp)
    return LayerSpec(part, {**layer.tensors, "sinks": sinks})


def _tensors(
    experts: int, width: int, inner: int, is_mxfp4: bool
) -> Callable[[str], dict[str, TensorSource]]:
    def tensors(prefix: str) -> dict[str, TensorSource]:
        path = f"{prefix}.mlp"

        def matrices(name: str, out: int, into: int, is_pairs: bool) -> TensorSource:
            stored, shape = f"{path}.experts.{name}", (experts, out, into)
            if is_mxfp4:
                both = (f"{stored}_blocks", f"{stored}_scales")
                return TensorSource(both, shape, "mxfp4_pairs" if is_pairs else "mxfp4")
            return TensorSource((stored,), shape, "expert_pairs" if is_pairs else "expert_turned")

        return {
            "router": TensorSource((f"{path}.router.weight",), (experts, width)),
            "router.bias": TensorSource((f"{path}.router.bias",), (experts,)),
            "experts.gate_up": matrices("gate_up_proj", 2 * inner, width, True),
            "experts.gate_up.bias": TensorSource(
                (f"{path}.experts.gate_up_proj_bias",), (experts, 2 * inner), "expert_pairs"
            ),
            "experts.down": matrices("down_proj", width, inner, False),
            "experts.down.bias": TensorSource(
                (f"{path}.experts.down_proj_bias",), (experts, width), "expert_stack"
            ),
        }

    return tensors
