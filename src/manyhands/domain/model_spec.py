"""What a model is, as data: a row of layers, each with its shape of computation and its tensors.

A family file fills these from `config.json`; engines interpret them. Knows nothing of files,
arrays or devices. Which norms, biases and layer scales a layer has is said by which tensors its
table has, never by a boolean.

Tensor names engines read (every matrix is [out, in] once its layout is undone):
  embed  `tokens`, `positions`, `token_types`, `patches`, `patches.bias`, `class_token`,
         `registers`, `norm`, `norm.bias`
  block  `attention_norm`, `q`, `k`, `v`, `o`, `q_norm`, `k_norm`, `sinks`, `attention_after_norm`,
         `attention_scale`, `mlp_norm`, `gate`, `up`, `down`, `router`, `mlp_after_norm`,
         `mlp_scale`, each with an optional `.bias`
  head   `norm`, `norm.bias`, `head`, `head.bias`
A `ModuleSpec` layer names its tensors as the checkpoint does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from manyhands.domain.ids import digest
from manyhands.domain.span import Span


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square or layer norm; `plus_one` multiplies by (1 + weight) as Gemma does."""

    kind: Literal["rms", "layer"]
    eps: float
    plus_one: bool = False


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions. The family computes the frequencies: every scaling rule is this one form.

    `inv_freq` rotates the first 2*len(inv_freq) of head_dim; sines and cosines are multiplied by
    `attention_factor`. A context longer than `switch_at` tokens uses `inv_freq_long`.
    """

    inv_freq: tuple[float, ...]
    interleaved: bool = False
    attention_factor: float = 1.0
    inv_freq_long: tuple[float, ...] | None = None
    switch_at: int | None = None


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek): ranks of the compressed query and key-value."""

    q_rank: int | None
    kv_rank: int
    nope: int
    rope: int


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention: grouped queries, scores times `scale`, `window` tokens back or all of them."""

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    scale: float
    causal: bool = True
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False
    qk_norm: Literal["none", "head", "whole"] = "none"
    qk: Norm | None = None
    rope: Rope | None = None
    alibi: tuple[float, ...] | None = None
    latent: Latent | None = None


@dataclass(frozen=True, slots=True)
class Mlp:
    """down(act(gate x) * up x) if gated, down(act(up x)) if plain; `width` is the inner size."""

    kind: Literal["gated", "plain"]
    activation: Literal["silu", "gelu", "gelu_tanh", "relu", "relu2", "swiglu_oai"]
    width: int
    limit: float | None = None
    alpha: float | None = None


@dataclass(frozen=True, slots=True)
class Moe:
    """A router over experts, each an `Mlp`; `shared` experts see every token."""

    experts: int
    top_k: int
    scoring: Literal["softmax", "sigmoid"]
    softmax_after_topk: bool = False
    renormalise: bool = False
    scale: float = 1.0
    groups: int = 1
    top_groups: int = 1
    shared: int = 0


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One transformer block. `flow` says where the norms stand around attention and MLP."""

    norm: Norm
    attention: Attention
    mlp: Mlp
    moe: Moe | None = None
    flow: Literal["pre", "post", "parallel"] = "pre"
    residual_scale: float = 1.0
    residual_from_norm: bool = False


@dataclass(frozen=True, slots=True)
class Patches:
    """How an image becomes tokens: square kernel, channels, class token and registers in front."""

    kernel: int
    channels: int
    class_token: bool = False
    registers: int = 0


@dataclass(frozen=True, slots=True)
class EmbedSpec:
    """Token ids (or patches) -> hidden states."""

    tokens: int
    scale: float = 1.0
    norm: Norm | None = None
    positions: int = 0
    position_offset: int = 0
    token_types: int = 0
    patches: Patches | None = None


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """Hidden states -> scores over the vocabulary, classes, one pooled vector, or nothing."""

    norm: Norm | None
    kind: Literal["lm", "classify", "pool_mean", "pool_first", "none"]
    outputs: int
    softcap: float | None = None
    logits_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """A layer that a library's own code computes: of it only what plans count with is known.

    `kv` numbers are kept per token of a session, `state` per session however long it is.
    """

    role: Literal["embed", "block", "head"]
    kv: int = 0
    state: int = 0


LayoutKind = Literal[
    "plain",
    "transpose",
    "rows",
    "qkv_by_kind",
    "qkv_by_head",
    "qkv_by_group",
    "expert_stack",
    "expert_pairs",
    "fp8_blocks",
    "mxfp4",
    "tied",
]


@dataclass(frozen=True, slots=True)
class TensorSource:
    """Where a tensor stands in a checkpoint and how it lies there; `shape` is its shape undone.

    `rows` takes rows [first, last) of the stored matrix. `tied` names the tensor it is shared with:
    read like `plain`, and an engine that already holds that tensor may share it.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    layout: LayoutKind = "plain"
    first: int = 0
    last: int = 0

    @property
    def elements(self) -> int:
        """Number of numbers."""
        count = 1
        for side in self.shape:
            count *= side
        return count


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer of the row: what it computes and the table of its tensors."""

    part: EmbedSpec | BlockSpec | HeadSpec | ModuleSpec
    tensors: Mapping[str, TensorSource]

    @property
    def elements(self) -> int:
        """Number of weights."""
        return sum(source.elements for source in self.tensors.values())


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A whole model: layer 0 embeds, layers 1 … n are blocks, layer n+1 is the head.

    `width` is that of the rows between two stages. `config` is empty, but for a model of ModuleSpec
    layers: then it is the JSON its library builds it from.
    """

    family: str
    width: int
    vocabulary: int
    context: int
    layers: tuple[LayerSpec, ...] = field(repr=False)
    config: str = field(default="", repr=False)

    @property
    def span(self) -> Span:
        """All layers."""
        return Span(0, len(self.layers))

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """The blocks in order."""
        return tuple(x.part for x in self.layers if isinstance(x.part, BlockSpec))

    def digest(self) -> str:
        """SHA-256 of everything in this spec."""
        return digest("model-spec", self)


StateKind = Literal["full", "window", "latent", "recurrent"]


def state_kind(block: BlockSpec) -> StateKind:
    """What a session must keep of this block: all keys, a window of them, or a latent."""
    if block.attention.latent is not None:
        return "latent"
    return "full" if block.attention.window is None else "window"


def kv_elements_per_token(block: BlockSpec | ModuleSpec) -> int:
    """Numbers kept per token in this block's memory."""
    if isinstance(block, ModuleSpec):
        return block.kv
    attention = block.attention
    if attention.latent is not None:
        return attention.latent.kv_rank + attention.latent.rope
    return attention.kv_heads * (attention.head_dim + attention.v_head_dim)


def span_elements(spec: ModelSpec, span: Span) -> int:
    """Weights in a span; one that is tied to another of the span is counted once."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for layer in spec.layers[span.first : span.last]:
        for source in layer.tensors.values():
            if source.layout != "tied" or source.names not in seen:
                total += source.elements
            seen.add(source.names)
    return total


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
