"""What a model is, as data: a row of layers, each with its shape of computation and its tensors.

A family file fills these from `config.json`; engines interpret them. Knows nothing of files,
arrays or devices. Which norms, biases and layer scales a layer has is said by which tensors its
table has, never by a boolean.

Tensor names engines read (every matrix is [out, in] once its layout is undone):
  embed  `tokens`, `positions`, `token_types`, `patches`, `patches.bias`, `class_token`,
         `registers`, `norm`, `norm.bias`
  block  `attention_norm`, `q`, `k`, `v`, `o`, `q_norm`, `k_norm`, `sinks`, `attention_after_norm`,
         `attention_scale`, `mlp_norm`, `gate`, `up`, `down`, `mlp_after_norm`, `mlp_scale`, each
         with an optional `.bias`
  latent attention, instead of q, k and v: `q` or `q_down` and `q_up`, `kv_down` (latent, then the
         rotary key), `kv_up` (of each head: keys, then values), `q_norm`, `k_norm` of the ranks
  mixture, instead of gate, up and down: `router`, `router.bias`, `router.correction`;
         `experts.gate` and `experts.up` or `experts.gate_up` (gate above up), and `experts.down`,
         all [experts, …], with optional `.bias`; `shared.gate`, `shared.up`, `shared.down`,
         `shared.scale` [1, D]
  head   `norm`, `norm.bias`, `dense`, `dense.bias`, `head`, `head.bias`
A `ModuleSpec` layer names its tensors as the checkpoint does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from manyhands.domain.ids import digest
from manyhands.domain.span import Span
from manyhands.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square or layer norm; `plus_one` multiplies by (1 + weight) as Gemma does.

    A norm stands where the table has its tensors; a `bare` one has none and stands nevertheless.
    """

    kind: Literal["rms", "layer"]
    eps: float
    plus_one: bool = False
    bare: bool = False


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
    """One attention: grouped queries, scores times `scale`, `window` tokens back or all of them.

    One that is not causal sees the tokens behind it too, within a window as many as before it, and
    keeps nothing: see `ModelSpec.keeps_memory`.
    """

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
    """A router over experts, each an `Mlp`; one shared of `shared_width` sees every token.

    The `top_k` highest scores are chosen, after a `router.correction` where the table has one, but
    experts weigh by their scores without it: divided by their sum with `renormalise`, times
    `scale`. Of several `groups` only experts of the `top_groups` best are chosen, a group counting
    as much as its best expert or the sum of its best two.
    """

    experts: int
    top_k: int
    scoring: Literal["softmax", "sigmoid"]
    softmax_after_topk: bool = False
    renormalise: bool = False
    scale: float = 1.0
    groups: int = 1
    top_groups: int = 1
    group_score: Literal["best", "best_two"] = "best_two"
    shared_width: int = 0


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One transformer block. `flow` says how attention and MLP hang together.

    pre: x + attention(norm x), then the same with the MLP. post: norm(x + attention(x)), then the
    same with the MLP. parallel: x + attention(norm x) + mlp(norm x), both with `attention_norm`
    unless the table has an `mlp_norm`. A block whose table lacks a norm has none there.
    `residual_from_norm` adds to the normed rows in place of x. Alibi adds slope * (key - query
    position) to a head's scores.
    """

    norm: Norm
    attention: Attention
    mlp: Mlp
    moe: Moe | None = None
    flow: Literal["pre", "post", "parallel"] = "pre"
    residual_scale: float = 1.0
    residual_from_norm: bool = False


@dataclass(frozen=True, slots=True)
class Patches:
    """How an image of `height` x `width` pixels becomes tokens: one a `kernel` x `kernel` square.

    In front stand a class token, then registers. What is left over at the right and the lower edge
    is cut off. Positions are learned for this size; they are not interpolated for another.
    """

    kernel: int
    channels: int
    height: int
    width: int
    class_token: bool = False
    registers: int = 0

    @property
    def squares(self) -> int:
        """Patches of an image."""
        return (self.height // self.kernel) * (self.width // self.kernel)

    @property
    def elements(self) -> int:
        """Numbers of one patch: channel by channel, row by row."""
        return self.channels * self.kernel**2


@dataclass(frozen=True, slots=True)
class EmbedSpec:
    """Token ids (or patches) -> hidden states.

    With token types every token is of type 0: one text. The tokens of an image are all the id 0,
    one a hidden state; positions are those of class token and patches, registers have none.
    """

    tokens: int
    scale: float = 1.0
    norm: Norm | None = None
    positions: int = 0
    position_offset: int = 0
    token_types: int = 0
    patches: Patches | None = None


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """Hidden states -> scores over the vocabulary, classes, one pooled vector, or nothing.

    `pool_mean` is the mean of all tokens' vectors, `pool_first` the first one. `classify` makes
    scores of the classes from the first one, through activation(dense x) where there is a `dense`.
    """

    norm: Norm | None
    kind: Literal["lm", "classify", "pool_mean", "pool_first", "none"]
    outputs: int
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
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
    "flat",
    "transpose",
    "rows",
    "columns",
    "experts",
    "expert_stack",
    "expert_turned",
    "expert_pairs",
    "fp8_blocks",
    "mxfp4",
    "mxfp4_pairs",
    "tied",
    "int8_blocks",
    "int8_tied",
    "int4_blocks",
    "low_rank",
]


@dataclass(frozen=True, slots=True)
class TensorSource:
    """Where a tensor stands in a checkpoint and how it lies there; `shape` is its shape undone.

    `flat` is stored in more axes, the same numbers in the same order. `rows` takes rows
    [first, last) of each `of` rows that are stored: once where q, k and v lie one under the other,
    once a head or group where each has its own three. `columns` is the same of the stored matrix
    transposed. `tied` names the tensor it is shared with: read like `plain`, and an engine that
    already holds that tensor may share it. What the layouts of experts and of others' quantised
    numbers (`block` is theirs) mean stands in `stored_parts`, our blocks and low ranks (`of` is the
    rank) in `weight_format`.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    layout: LayoutKind = "plain"
    first: int = 0
    last: int = 0
    of: int = 0
    block: tuple[int, int] | None = None

    @property
    def runs(self) -> int:
        """How often rows [first, last) are taken; 0 for a table that makes no sense."""
        taken = self.last - self.first
        makes_sense = 0 <= self.first < self.last <= self.of and self.shape[0] % taken == 0
        return self.shape[0] // taken if makes_sense else 0

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of the stored tensor that this is, or is cut from."""
        if self.layout not in ("rows", "columns"):
            return self.shape[::-1] if self.layout == "transpose" else self.shape
        shape = (self.runs * self.of, *self.shape[1:])
        return shape[::-1] if self.layout == "columns" else shape

    @property
    def is_tied(self) -> bool:
        """True when this is the embedding once more, in whatever form."""
        return self.layout in ("tied", "int8_tied")

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
    layers: then it is the JSON its library builds it from. An encoder-decoder has a `source` above
    0, its encoder's blocks in front: a session begins with a text of up to so many tokens to be
    read, whole, in the step at position 0; behind stands what the decoder says.
    """

    family: str
    width: int
    vocabulary: int
    context: int
    layers: tuple[LayerSpec, ...] = field(repr=False)
    config: str = field(default="", repr=False)
    source: int = 0

    @property
    def span(self) -> Span:
        """All layers."""
        return Span(0, len(self.layers))

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """The blocks in order."""
        return tuple(x.part for x in self.layers if isinstance(x.part, BlockSpec))

    @property
    def embed(self) -> EmbedSpec:
        """What layer 0 computes. Raises CheckpointError where layer 0 is none."""
        part = self.layers[0].part
        if not isinstance(part, EmbedSpec):
            raise CheckpointError("layer 0 is no embedding; check the family file")
        return part

    @property
    def head(self) -> HeadSpec:
        """What the last layer computes. Raises CheckpointError where it is no head."""
        part = self.layers[-1].part
        if not isinstance(part, HeadSpec):
            raise CheckpointError("the last layer is no head; check the family file")
        return part

    @property
    def answers(self) -> str:
        """The kind of the head; a library's own code is only run where it speaks."""
        part = self.layers[-1].part
        return "lm" if isinstance(part, ModuleSpec) else self.head.kind

    @property
    def keeps_memory(self) -> bool:
        """True for a model that goes on with a text; False for one that sees it whole at once.

        Without memory every step is a whole sequence from position 0.
        """
        return not self.blocks or any(block.attention.causal for block in self.blocks)

    def digest(self) -> str:
        """SHA-256 of everything in this spec."""
        return digest("model-spec", self)
