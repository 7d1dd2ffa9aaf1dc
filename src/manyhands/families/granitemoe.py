"""GraniteMoe: a Llama with multipliers whose mixtures lie in stacks of experts. Reads no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from manyhands.domain.model_spec import (
    ModelSpec,
    Moe,
    TensorSource,
)
from manyhands.families.building import build
from manyhands.families.llama import llama
from manyhands.families.mixture import chosen_count, expert_count, with_mixtures
from manyhands.families.values import Config, number, whole, with_defaults


def spec(config: Config) -> ModelSpec:
    """A GraniteMoe. Every block is a mixture."""
    config = with_defaults(config, num_local_experts=8, num_experts_per_tok=2)
    dense = build(
        replace(
            llama(config, "granitemoe"),
            scale=number(config, "attention_multiplier", 1.0),
            residual_scale=number(config, "residual_multiplier", 1.0),
            embed_scale=number(config, "embedding_multiplier", 1.0),
            logits_scale=1 / number(config, "logits_scaling", 1.0),
        )
    )
    experts = expert_count(config, "num_local_experts", "num_experts")
    moe = Moe(experts, chosen_count(config, experts), "softmax", softmax_after_topk=True)
    inner = whole(config, "intermediate_size")
    return with_mixtures(dense, moe, inner, lambda _: True, _tensors(experts, dense.width, inner))


def _tensors(experts: int, width: int, inner: int) -> Callable[[str], dict[str, TensorSource]]:
    def tensors(prefix: str) -> dict[str, TensorSource]:
        path = f"{prefix}.block_sparse_moe"
        return {
            "router": TensorSource((f"{path}.router.layer.weight",), (experts, width)),
            "experts.gate_up": TensorSource(
                (f"{path}.input_linear.weight",), (experts, 2 * inner, width), "expert_stack"
            ),
            "experts.down": TensorSource(
                (f"{path}.output_linear.weight",), (experts, width, inner), "expert_stack"
            ),
        }

    return tensors
