"""Reads the tables of a span's layers into the forms an engine computes with, each tensor once.

q, k, v lie under each other in one matrix, gate and up in another: one product instead of three or
two. A tensor in a table that nobody takes is refused by name, so that nothing is ever ignored.
Knows nothing of dtypes or arrays: a Reader of the engine makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from manyhands.domain.model_spec import BlockSpec, EmbedSpec, HeadSpec, LayerSpec, TensorSource
from manyhands.errors import CheckpointError, NotServed

A = TypeVar("A")
"""An engine's array."""

L = TypeVar("L", covariant=True)
"""An engine's linear map: called with rows [N, in], gives [N, out]."""


class Reader(Protocol[A, L]):
    """How an engine takes tensors in; every method reads from the checkpoint at once."""

    def vector(self, source: TensorSource) -> A:
        """A norm's weight, a bias or sinks, in the engine's own precision for them."""

    def table(self, source: TensorSource) -> A:
        """Rows to be looked up by id."""

    def linear(self, matrices: Sequence[TensorSource], biases: Sequence[TensorSource | None]) -> L:
        """Matrices [out_i, in] under each other, with their biases; a missing bias is zero."""

    def linear_of(self, table: A, bias: TensorSource | None) -> L:
        """A linear map with a table read before as its matrix, sharing its memory."""


@dataclass(frozen=True, slots=True)
class NormWeights(Generic[A]):
    """A norm's weight and bias, each there or not."""

    weight: A | None
    bias: A | None


@dataclass(frozen=True, slots=True)
class TextWeights(Generic[A]):
    """Tokens [V, D]; positions [P, D], token types [K, D] and norm, each if any."""

    tokens: A
    positions: A | None
    token_types: A | None
    norm: NormWeights[A]


@dataclass(frozen=True, slots=True)
class ImageWeights(Generic[A, L]):
    """The map of patches; class token [1, D], registers [R, D], positions, norm, each if any."""

    patches: L
    class_token: A | None
    registers: A | None
    positions: A | None
    norm: NormWeights[A]


@dataclass(frozen=True, slots=True)
class BlockWeights(Generic[A, L]):
    """One block, ready to compute; `mlp_in` is gate over up, or up alone when plain.

    A norm that is None stands nowhere; a scale [D] multiplies what attention or MLP gives.
    """

    attention_norm: NormWeights[A] | None
    qkv: L
    q_norm: NormWeights[A]
    k_norm: NormWeights[A]
    sinks: A | None
    o: L
    attention_after_norm: NormWeights[A] | None
    attention_scale: A | None
    mlp_norm: NormWeights[A] | None
    mlp_in: L
    down: L
    mlp_after_norm: NormWeights[A] | None
    mlp_scale: A | None


@dataclass(frozen=True, slots=True)
class HeadWeights(Generic[A, L]):
    """Norm, and the matrix [outputs, D] of scores, with a `dense` [D, D] before it if any."""

    norm: NormWeights[A]
    dense: L | None
    head: L | None


class _Table(Generic[A, L]):
    """One layer's tensors, taken by name; what is left at the end is refused."""

    def __init__(self, layer: LayerSpec, place: int, reader: Reader[A, L]) -> None:
        self._left = dict(layer.tensors)
        self._place = place
        self._reader = reader

    def source(self, name: str, *shape: int) -> TensorSource | None:
        """The named tensor's source, or None; its shape must be what the layer's words say."""
        source = self._left.pop(name, None)
        if source is not None and source.shape != shape:
            raise CheckpointError(
                f"layer {self._place}: tensor {name!r} has shape {list(source.shape)} in the "
                f"table, but the layer computes with {list(shape)}; check the family file"
            )
        return source

    def need(self, name: str, *shape: int) -> TensorSource:
        """Like `source`, but it must be there."""
        source = self.source(name, *shape)
        if source is None:
            raise CheckpointError(
                f"layer {self._place} has no tensor {name!r} in its table; check the family file"
            )
        return source

    def vector(self, name: str, size: int) -> A | None:
        """The named vector, or None."""
        source = self.source(name, size)
        return None if source is None else self._reader.vector(source)

    def rows(self, name: str, count: int, width: int) -> A | None:
        """The named table [count, width], which must be there; None for a count of 0."""
        return self._reader.table(self.need(name, count, width)) if count else None

    def norm(self, name: str, size: int) -> NormWeights[A]:
        """A norm's weight and bias, each there or not."""
        return NormWeights(self.vector(name, size), self.vector(f"{name}.bias", size))

    def linear(self, into: int, **outs: int) -> L:
        """The named matrices [out, into], fused, with their biases."""
        matrices = [self.need(name, out, into) for name, out in outs.items()]
        biases = [self.source(f"{name}.bias", out) for name, out in outs.items()]
        return self._reader.linear(matrices, biases)

    def optional_norm(self, name: str, size: int) -> NormWeights[A] | None:
        """A norm that stands there only if the table has it."""
        return self.norm(name, size) if self.has(name) else None

    def has(self, name: str) -> bool:
        """True for a tensor of the table that nobody has taken yet."""
        return name in self._left

    def finish(self) -> None:
        """Refuse what nobody took."""
        if self._left:
            raise NotServed(
                f"layer {self._place} has tensors that the block engines do not compute with: "
                f"{', '.join(self._left)}"
            )


def read_embed(
    layer: LayerSpec, part: EmbedSpec, width: int, place: int, reader: Reader[A, L]
) -> TextWeights[A] | ImageWeights[A, L]:
    """Read an embedding of texts or of images. Raises CheckpointError, NotServed."""
    table = _Table(layer, place, reader)
    known = part.positions + part.position_offset if part.positions else 0
    weights: TextWeights[A] | ImageWeights[A, L]
    if part.patches is None:
        weights = TextWeights(
            tokens=reader.table(table.need("tokens", part.tokens, width)),
            positions=table.rows("positions", known, width),
            token_types=table.rows("token_types", part.token_types, width),
            norm=table.norm("norm", width),
        )
    else:
        image = part.patches
        weights = ImageWeights(
            patches=table.linear(image.elements, patches=width),
            class_token=table.rows("class_token", int(image.class_token), width),
            registers=table.rows("registers", image.registers, width),
            positions=table.rows("positions", known, width),
            norm=table.norm("norm", width),
        )
    table.finish()
    return weights


def read_block(
    layer: LayerSpec, part: BlockSpec, width: int, place: int, reader: Reader[A, L]
) -> BlockWeights[A, L]:
    """Read a block. Raises CheckpointError, NotServed."""
    attention, inner = part.attention, part.mlp.width
    queries = attention.heads * attention.head_dim
    keys = attention.kv_heads * attention.head_dim
    values = attention.kv_heads * attention.v_head_dim
    is_whole = attention.qk_norm == "whole"
    table = _Table(layer, place, reader)
    gated = {"gate": inner} if part.mlp.kind == "gated" else {}
    weights = BlockWeights(
        attention_norm=table.optional_norm("attention_norm", width),
        qkv=table.linear(width, q=queries, k=keys, v=values),
        q_norm=table.norm("q_norm", queries if is_whole else attention.head_dim),
        k_norm=table.norm("k_norm", keys if is_whole else attention.head_dim),
        sinks=table.vector("sinks", attention.heads),
        o=table.linear(attention.heads * attention.v_head_dim, o=width),
        attention_after_norm=table.optional_norm("attention_after_norm", width),
        attention_scale=table.vector("attention_scale", width),
        mlp_norm=table.optional_norm("mlp_norm", width),
        mlp_in=table.linear(width, **gated, up=inner),
        down=table.linear(inner, down=width),
        mlp_after_norm=table.optional_norm("mlp_after_norm", width),
        mlp_scale=table.vector("mlp_scale", width),
    )
    table.finish()
    _check_agreement(part, weights, place)
    return weights


def _check_agreement(part: BlockSpec, weights: BlockWeights[A, L], place: int) -> None:
    """The few words that name a tensor by a flag must agree with the table."""
    attention = part.attention
    has_qk_norm = weights.q_norm.weight is not None and weights.k_norm.weight is not None
    if (attention.qk_norm != "none") != has_qk_norm:
        raise CheckpointError(
            f"layer {place}: qk_norm is {attention.qk_norm!r}, but q_norm and k_norm are "
            f"{'in' if has_qk_norm else 'not both in'} its table; check the family file"
        )
    if attention.sinks != (weights.sinks is not None):
        raise CheckpointError(
            f"layer {place}: sinks is {attention.sinks}, its table says otherwise; check the "
            "family file"
        )


def read_head(
    layer: LayerSpec,
    part: HeadSpec,
    width: int,
    place: int,
    reader: Reader[A, L],
    tokens: A | None,
) -> HeadWeights[A, L]:
    """Read a head; a tied one shares the embedding's `tokens` when the span holds them."""
    table = _Table(layer, place, reader)
    norm = table.norm("norm", width)
    if part.kind not in ("lm", "classify"):
        table.finish()
        return HeadWeights(norm, None, None)
    dense = None
    if part.kind == "classify" and table.has("dense"):
        dense = table.linear(width, dense=width)
    matrix = table.need("head", part.outputs, width)
    bias = table.source("head.bias", part.outputs)
    is_shared = tokens is not None and matrix.layout == "tied"
    head = (
        reader.linear_of(tokens, bias)
        if is_shared and tokens is not None
        else reader.linear([matrix], [bias])
    )
    table.finish()
    return HeadWeights(norm, dense, head)
