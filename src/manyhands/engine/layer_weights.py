"""Reads the tables of a span's layers into the forms an engine computes with, each tensor once.

q, k, v lie under each other in one matrix, gate and up in another: one product instead of three or
two. A tensor in a table that nobody takes is refused by name, so that nothing is ever ignored.
Knows nothing of dtypes or arrays: a Reader of the engine makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from manyhands.domain.latent import absorbed
from manyhands.domain.model_spec import (
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    Latent,
    LayerSpec,
    Mlp,
    Moe,
    TensorSource,
)
from manyhands.domain.stored_parts import expert_of
from manyhands.engine.expert_weights import LatentWeights, MlpWeights, MoeWeights
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

    def by_head(self, source: TensorSource, heads: int, cut: int) -> tuple[A, A]:
        """A matrix [heads * (cut + rest), in] as [heads, cut, in] and [heads, rest, in]."""

    def wide(self, source: TensorSource) -> A:
        """What is kept in float32 whatever the engine computes in: corrections of routers."""

    def wide_linear(self, matrix: TensorSource, bias: TensorSource | None) -> L:
        """The same of a linear map: a router."""

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
    """One block, ready to compute; a norm that is None does not stand there.

    A scale [D] multiplies what attention or MLP gives. With latent attention `qkv` gives the
    queries, compressed or not, over the latent and its rotary key; the norms are those of the
    compressed query and of the latent.
    """

    attention_norm: NormWeights[A] | None
    qkv: L
    latent: LatentWeights[A, L] | None
    q_norm: NormWeights[A]
    k_norm: NormWeights[A]
    sinks: A | None
    o: L
    attention_after_norm: NormWeights[A] | None
    attention_scale: A | None
    mlp_norm: NormWeights[A] | None
    mlp: MlpWeights[L] | MoeWeights[A, L]
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

    def experts(self, count: int, into: int, outs: Mapping[str, int]) -> list[L]:
        """Of each of `count` experts the named matrices [count, out, into] fused, with biases."""
        matrices = [self.need(name, count, out, into) for name, out in outs.items()]
        biases = [self.source(f"{name}.bias", count, out) for name, out in outs.items()]
        return [
            self._reader.linear(
                [expert_of(matrix, expert) for matrix in matrices],
                [None if bias is None else expert_of(bias, expert) for bias in biases],
            )
            for expert in range(count)
        ]

    def wide(self, name: str, *shape: int) -> A | None:
        """The named tensor in float32, or None."""
        source = self.source(name, *shape)
        return None if source is None else self._reader.wide(source)

    def wide_linear(self, name: str, out: int, into: int) -> L:
        """The named matrix [out, into] in float32, with its bias if any."""
        matrix, bias = self.need(name, out, into), self.source(f"{name}.bias", out)
        return self._reader.wide_linear(matrix, bias)

    def has(self, name: str) -> bool:
        """True when the table has it and nobody took it yet."""
        return name in self._left

    def optional_norm(self, name: str, size: int, is_bare: bool = False) -> NormWeights[A] | None:
        """A norm that stands there only if the table has it, or without tensors if it is bare."""
        return self.norm(name, size) if is_bare or name in self._left else None

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
    attention = part.attention
    keys = attention.kv_heads * attention.head_dim
    values = attention.kv_heads * attention.v_head_dim
    queries = attention.heads * attention.head_dim
    is_bare = part.norm.bare
    table = _Table(layer, place, reader)
    latent = attention.latent
    if latent is None:
        outs = {"q": queries, "k": keys, "v": values}
        is_whole = attention.qk_norm == "whole"
        norms = (queries, keys) if is_whole else (attention.head_dim, attention.head_dim)
    else:
        rank = latent.q_rank
        outs = {"q": queries} if rank is None else {"q_down": rank}
        outs["kv_down"] = latent.kv_rank + latent.rope
        norms = (queries if rank is None else rank, latent.kv_rank)
    weights = BlockWeights(
        attention_norm=table.optional_norm("attention_norm", width, is_bare),
        qkv=table.linear(width, **outs),
        latent=None if latent is None else _read_latent(table, part, latent, reader),
        q_norm=table.norm("q_norm", norms[0]),
        k_norm=table.norm("k_norm", norms[1]),
        sinks=table.vector("sinks", attention.heads),
        o=table.linear(attention.heads * attention.v_head_dim, o=width),
        attention_after_norm=table.optional_norm("attention_after_norm", width),
        attention_scale=table.vector("attention_scale", width),
        mlp_norm=table.optional_norm("mlp_norm", width, is_bare),
        mlp=(
            _read_mlp(table, part.mlp, width)
            if part.moe is None
            else _read_mixture(table, part.moe, part.mlp, width)
        ),
        mlp_after_norm=table.optional_norm("mlp_after_norm", width),
        mlp_scale=table.vector("mlp_scale", width),
    )
    table.finish()
    _check_agreement(part, weights, place)
    return weights


def _read_mlp(table: _Table[A, L], spec: Mlp, width: int, prefix: str = "") -> MlpWeights[L]:
    ins = {f"{prefix}gate": spec.width} if spec.kind == "gated" else {}
    ins[f"{prefix}up"] = spec.width
    return MlpWeights(
        spec, table.linear(width, **ins), table.linear(spec.width, **{f"{prefix}down": width})
    )


def _read_mixture(table: _Table[A, L], moe: Moe, mlp: Mlp, width: int) -> MoeWeights[A, L]:
    if table.has("experts.gate_up"):
        ins = {"experts.gate_up": 2 * mlp.width}
    else:
        ins = {"experts.gate": mlp.width} if mlp.kind == "gated" else {}
        ins["experts.up"] = mlp.width
    count, shared = moe.experts, replace(mlp, width=moe.shared_width)
    has_scale = table.has("shared.scale")
    into = table.experts(count, width, ins)
    down = table.experts(count, mlp.width, {"experts.down": width})
    return MoeWeights(
        spec=moe,
        router=table.wide_linear("router", count, width),
        correction=table.wide("router.correction", count),
        experts=tuple(MlpWeights(mlp, *pair) for pair in zip(into, down, strict=True)),
        shared=_read_mlp(table, shared, width, "shared.") if moe.shared_width else None,
        shared_scale=table.wide_linear("shared.scale", 1, width) if has_scale else None,
    )


def _read_latent(
    table: _Table[A, L], part: BlockSpec, latent: Latent, reader: Reader[A, L]
) -> LatentWeights[A, L]:
    attention, q_up = part.attention, None
    if latent.q_rank is not None:
        q_up = table.linear(latent.q_rank, q_up=attention.heads * attention.head_dim)
    rows = attention.heads * (latent.nope + attention.v_head_dim)
    source = table.need("kv_up", rows, latent.kv_rank)
    k_up, v_up = reader.by_head(source, attention.heads, latent.nope)
    return LatentWeights(attention, latent, absorbed(attention, latent), q_up, k_up, v_up)


def _check_agreement(part: BlockSpec, weights: BlockWeights[A, L], place: int) -> None:
    """The few words that name a tensor by a flag must agree with the table."""
    attention = part.attention
    has_qk_norm = weights.q_norm.weight is not None and weights.k_norm.weight is not None
    needs = attention.qk_norm != "none" and not (attention.qk or part.norm).bare
    if attention.latent is None and needs != has_qk_norm:
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
    is_shared = tokens is not None and matrix.is_tied
    head = (
        reader.linear_of(tokens, bias)
        if is_shared and tokens is not None
        else reader.linear([matrix], [bias])
    )
    table.finish()
    return HeadWeights(norm, dense, head)
