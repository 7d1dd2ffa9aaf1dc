"""How many numbers a span of a model is, and keeps: what plans and memories count with."""

from __future__ import annotations

from collections.abc import Iterator

from manyhands.domain.model_spec import BlockSpec, ModelSpec, ModuleSpec, TensorSource
from manyhands.domain.span import Span


def kv_elements_per_token(block: BlockSpec | ModuleSpec) -> int:
    """Numbers kept per token in this block's memory."""
    if isinstance(block, ModuleSpec):
        return block.kv
    attention = block.attention
    if not attention.causal:
        return 0
    if attention.latent is not None:
        return attention.latent.kv_rank + attention.latent.rope
    return attention.kv_heads * (attention.head_dim + attention.v_head_dim)


def span_tensors(spec: ModelSpec, span: Span) -> Iterator[TensorSource]:
    """The tensors of a span; one that is tied to another of the span comes once."""
    seen: set[tuple[str, ...]] = set()
    for layer in spec.layers[span.first : span.last]:
        for source in layer.tensors.values():
            if not source.is_tied or source.names not in seen:
                yield source
            seen.add(source.names)


def span_elements(spec: ModelSpec, span: Span) -> int:
    """Weights in a span, each counted once."""
    return sum(source.elements for source in span_tensors(spec, span))


def span_kv_elements(spec: ModelSpec, span: Span) -> int:
    """Numbers kept per token by the blocks of a span."""
    parts = (layer.part for layer in spec.layers[span.first : span.last])
    return sum(
        kv_elements_per_token(part) for part in parts if isinstance(part, (BlockSpec, ModuleSpec))
    )


def span_state_elements(spec: ModelSpec, span: Span) -> int:
    """Numbers kept per session, whatever its length, by the blocks of a span."""
    parts = (layer.part for layer in spec.layers[span.first : span.last])
    return sum(part.state for part in parts if isinstance(part, ModuleSpec))
