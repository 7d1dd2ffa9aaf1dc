"""Seconds and bytes of a span on a device, of rows on a link, of weights on a disk.

Counts from measured devices and links only. Knows nothing of who runs what, or of sessions.
A step is counted layer by layer as a roofline: the longer of reading (weights and memory) and
multiplying, plus the device's fixed time a layer (Williams, Waterman, Patterson 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from manyhands.domain.device import Device, Link
from manyhands.domain.ids import PeerId
from manyhands.domain.latent import absorbed_flops, expanded_flops
from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    ModelSpec,
    ModuleSpec,
    Moe,
    TensorSource,
)
from manyhands.domain.sizes import (
    kv_elements_per_token,
    span_kv_elements,
    span_state_elements,
    span_tensors,
)
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.domain.weight_format import blocks_of, bytes_of_blocks

MEMORY_SHARE = 0.9
"""The part of a device's memory that may be planned; the rest is workspace and the user's own."""

FRAME_BYTES = 300
"""A frame's length, kind and header: sent on every hop beside the rows."""

TOKEN_BYTES = 4
"""A token id on the wire, about."""

LOOKED_UP = frozenset({"tokens", "positions", "token_types"})
"""Tables of an embedding that are read a row a token, never whole."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What is counted with, beside model, devices and links: number sizes and the shape of a step.

    A step has `tokens` rows on top of `context` tokens in memory; `tokens` 1 is decoding. Bytes are
    of one number: a weight (one in blocks of integers takes what its blocks do, whatever is said
    here), an element of key/value memory, an element on a link.
    `latency_s` and `rate_bytes_per_s` stand for a link nobody has measured (a modest home network).

    """

    bytes_per_weight: float = 2.0
    bytes_per_kv: float = 4.0
    bytes_per_hidden: float = 4.0
    tokens: int = 1
    context: int = 0
    latency_s: float = 0.002
    rate_bytes_per_s: float = 12.5e6


def _attended(attention: Attention, cost: Cost) -> float:
    """Keys one row of a step looks at, on average over its rows."""
    window = attention.window
    if not attention.causal:  # all of the step, or a window to both sides
        return float(cost.tokens if window is None else min(cost.tokens, 2 * window - 1))
    keys = cost.context + (cost.tokens + 1) / 2
    return keys if window is None else min(keys, float(window))


def _tensor_bytes(source: TensorSource, cost: Cost) -> float:
    """Bytes of a tensor: what its blocks take, where it is stored in blocks."""
    if blocks_of(source) is not None:
        return float(bytes_of_blocks(source))
    return source.elements * cost.bytes_per_weight


def _weights_used(layer: LayerSpec, tokens: int, cost: Cost) -> tuple[float, float]:
    """(bytes of weights read, weights multiplied with one row) in a step of `tokens` rows."""
    read, used = 0.0, 0.0
    moe = layer.part.moe if isinstance(layer.part, BlockSpec) else None
    for name, source in layer.tensors.items():
        if _is_looked_up(layer, name):
            rows = min(1.0, tokens * source.shape[-1] / source.elements)
            read += _tensor_bytes(source, cost) * rows
        elif moe is not None and name.startswith("experts."):
            touched = _experts_touched(moe, tokens) / moe.experts
            read += _tensor_bytes(source, cost) * touched
            used += source.elements / moe.experts * moe.top_k
        else:
            read += _tensor_bytes(source, cost)
            used += source.elements
    return read, used


def _experts_touched(moe: Moe, tokens: int) -> float:
    """How many experts `tokens` rows choose among them, if all are chosen equally often."""
    return moe.experts * (1 - (1 - moe.top_k / moe.experts) ** tokens)


def _is_looked_up(layer: LayerSpec, name: str) -> bool:
    """Of an embedding whose tensors are only known by name, every matrix is taken for a table."""
    if isinstance(layer.part, ModuleSpec):
        return layer.part.role == "embed" and len(layer.tensors[name].shape) == 2
    return isinstance(layer.part, EmbedSpec) and name in LOOKED_UP


def layer_work(layer: LayerSpec, cost: Cost) -> tuple[float, float]:
    """(bytes read, floating-point operations) of one layer in one step.

    Of a mixture only the experts count that the rows choose, of an embedding only the rows looked
    up; a head scores the last row alone.
    """
    part = layer.part
    is_head = isinstance(part, HeadSpec) or (isinstance(part, ModuleSpec) and part.role == "head")
    rows = 1 if is_head else cost.tokens
    bytes_read, used = _weights_used(layer, rows, cost)
    flops = 2.0 * used * rows
    if isinstance(part, BlockSpec):
        keys = _attended(part.attention, cost)
        bytes_read += keys * kv_elements_per_token(part) * cost.bytes_per_kv
        flops += _attention_flops(part.attention, keys, cost)
    elif isinstance(part, ModuleSpec):
        keys = cost.context + (cost.tokens + 1) / 2
        bytes_read += (keys * part.kv + part.state) * cost.bytes_per_kv
        flops += 2.0 * cost.tokens * keys * part.kv
    return bytes_read, flops


def _attention_flops(attention: Attention, keys: float, cost: Cost) -> float:
    """Operations of a step's rows with `keys` keys each, beside those with weights.

    Over latents by the cheaper way; what that makes of the step's own rows is among the weights'.
    """
    pairs = cost.tokens * keys
    latent = attention.latent
    if latent is None:
        return 2.0 * attention.heads * pairs * (attention.head_dim + attention.v_head_dim)
    counted = absorbed_flops(attention, latent, cost.tokens, 0)
    all_keys = cost.context + cost.tokens
    return (
        min(
            absorbed_flops(attention, latent, cost.tokens, pairs),
            expanded_flops(attention, latent, all_keys, pairs),
        )
        - counted
    )


def work_s(work: tuple[float, float], device: Device) -> float:
    """Seconds of one layer's (bytes, flops) on a device."""
    bytes_read, flops = work
    reading = _over(bytes_read, device.read_bytes_per_s)
    return max(reading, _over(flops, device.flops_per_s)) + device.overhead_s


def _over(amount: float, rate: float) -> float:
    """Seconds; for ever at a rate of nothing, which a peer's record may well claim."""
    return amount / rate if rate > 0 else inf


def span_s(spec: ModelSpec, span: Span, device: Device, cost: Cost) -> float:
    """Seconds of one step through a span on a device."""
    layers = spec.layers[span.first : span.last]
    return sum(work_s(layer_work(layer, cost), device) for layer in layers)


def weight_bytes(spec: ModelSpec, span: Span, cost: Cost) -> int:
    """Bytes a span's weights take on disk and in memory; tied ones of a span are counted once."""
    return round(sum(_tensor_bytes(source, cost) for source in span_tensors(spec, span)))


def kv_bytes(spec: ModelSpec, span: Span, tokens: int, cost: Cost) -> int:
    """Bytes of key/value memory a session of `tokens` tokens takes in a span.

    Windowed layers count in full: that is the most they take between two cuts.
    """
    numbers = span_kv_elements(spec, span) * tokens + span_state_elements(spec, span)
    return round(numbers * cost.bytes_per_kv)


def hidden_bytes(spec: ModelSpec, cost: Cost) -> int:
    """Bytes of one step's hidden states and token ids on a link between two stages."""
    row = spec.width * cost.bytes_per_hidden + TOKEN_BYTES
    return FRAME_BYTES + round(cost.tokens * row)


def prompt_bytes(cost: Cost) -> int:
    """Bytes of one step from the owner to the first stage: token ids."""
    return FRAME_BYTES + cost.tokens * TOKEN_BYTES


def answer_bytes() -> int:
    """Bytes of a result on its way to the owner: one token."""
    return FRAME_BYTES + TOKEN_BYTES


def link_between(swarm: Swarm, source: PeerId, target: PeerId, cost: Cost) -> Link:
    """The measured link, or the one that stands for a link nobody has measured."""
    known = swarm.links.get((source, target))
    return known or Link(source, target, cost.latency_s, cost.rate_bytes_per_s)


def link_s(link: Link, size_bytes: int) -> float:
    """Seconds until `size_bytes` have arrived; nothing from a peer to itself."""
    if link.source == link.target:
        return 0.0
    return max(0.0, link.latency_s) + _over(size_bytes, link.rate_bytes_per_s)


def load_s(spec: ModelSpec, span: Span, disk_bytes_per_s: float, cost: Cost) -> float:
    """Seconds to read a span's weights from disk."""
    return _over(weight_bytes(spec, span, cost), disk_bytes_per_s)


def memory_bytes(spec: ModelSpec, span: Span, tokens: int, cost: Cost) -> int:
    """Bytes a span takes loaded: weights, and key/value memory for `tokens` tokens in all."""
    return weight_bytes(spec, span, cost) + kv_bytes(spec, span, tokens, cost)


def fits(spec: ModelSpec, span: Span, device: Device, tokens: int, cost: Cost) -> bool:
    """True when a span and memory for `tokens` tokens in all fit into a device's planned share."""
    return memory_bytes(spec, span, tokens, cost) <= MEMORY_SHARE * device.memory_bytes
