"""numpy_blocks: interprets BlockSpec in float32 with numpy alone, the reference of every engine.

What a device without torch runs, too. Weights are kept in float32 whatever the checkpoint holds:
a bfloat16 file takes twice its bytes in memory. Knows nothing of sessions: `blocks` keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from mmap import mmap
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.device import Device
from manyhands.domain.model_spec import (
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    ModelSpec,
    Rope,
    TensorSource,
)
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.weight_format import INTEGER_FORMATS, blocks_of
from manyhands.engine import integers
from manyhands.engine.block_weights import BlockLinear
from manyhands.engine.blocks import BlockEngine, Part
from manyhands.engine.engine import Output, Weights
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.integers import BlockTable, Integers, integers_of
from manyhands.engine.kv_cache import KvCache
from manyhands.engine.layer_weights import (
    BlockWeights,
    HeadWeights,
    ImageWeights,
    NormWeights,
    TextWeights,
    read_block,
    read_embed,
    read_head,
)
from manyhands.engine.numpy_ends import embed, head
from manyhands.engine.numpy_latent import attend_latent, split_latent
from manyhands.engine.numpy_math import ARITHMETIC, attend, norm, rotate, rotation
from manyhands.engine.numpy_moe import feed
from manyhands.engine.row_attention import kept
from manyhands.engine.row_latent import attend_latent_by_rows
from manyhands.engine.row_linear import RowLinear
from manyhands.engine.served import check_served
from manyhands.engine.weights import read_float32, stack_float32
from manyhands.errors import BadSetting

Float32 = NDArray[np.float32]
Turns = dict[Rope, tuple[Float32, Float32]]
Linear = Callable[[Float32], Float32]
Watch = Callable[[Sequence[TensorSource], Float32], None]
"""Called with the matrices of a product and the rows they are multiplied with."""


def load(
    spec: ModelSpec,
    span: Span,
    weights: Weights,
    *,
    kv_bytes: int,
    device: Device | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> BlockEngine[Float32]:
    """See engine.Load. `cost_s` counts with `device`; `threads` multiply matrices of integers.

    `watch` sees what plain matrices are multiplied with. Raises BadSetting for other options.
    """
    if options:
        names = ", ".join(options)
        raise BadSetting(f"numpy_blocks has no option {names}; it has device, threads, watch")
    check_served(spec, span)
    whole = integers_of(spec, threads)
    program = _Program(spec, span, _Reader(weights, whole, watch))
    form = np.dtype(np.float32 if whole is None else np.uint16)  # bits of bfloat16

    def view(buffer: mmap, offset: int, shape: tuple[int, int, int]) -> Float32:
        count = math.prod(shape)
        flat = np.frombuffer(buffer, form, count, offset) if count else np.empty(0, form)
        return flat.reshape(shape)

    cache = KvCache(kv_bytes, form.itemsize, spec.context, view)
    return BlockEngine(spec, span, program, cache, device)


def profile(weights: str, weight_format: str, wire_codec: str) -> Profile:
    """The numeric form of this engine's results; `weights` names the weight files."""
    if weight_format in INTEGER_FORMATS:
        return integers.profile(weights, weight_format, "numpy", ARITHMETIC, np.__version__)
    return Profile(
        weights=weights,
        weight_format=weight_format,
        arithmetic="fp32 x fp32 -> fp32",
        kernels=f"numpy-fp32-{ARITHMETIC}-{np.__version__}",
        wire_codec=wire_codec,
        row_invariant=False,  # BLAS chooses its order of additions by the number of rows
        tolerance=1e-4,
    )


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Float32
    bias: Float32 | None

    def __call__(self, rows: Float32) -> Float32:
        out: Float32 = rows @ self.weight.T
        if self.bias is not None:
            out += self.bias
        return out


class _Reader:
    """Takes tensors in as float32 and counts their bytes; shared ones once."""

    def __init__(self, weights: Weights, whole: Integers | None, watch: Watch | None) -> None:
        self._weights = weights
        self.integers = whole
        self._watch = watch
        self.bytes_held = 0

    def _held(self, array: Float32) -> Float32:
        self.bytes_held += array.nbytes
        return array

    def vector(self, source: TensorSource) -> Float32:
        return self._held(read_float32(source, self._weights))

    def table(self, source: TensorSource) -> Float32:
        if self.integers is None or blocks_of(source) is None:
            return self._held(read_float32(source, self._weights))
        table = self.integers.table(source, self._weights)
        self.bytes_held += table.product.bytes_held
        return cast("Float32", table)  # looked up like an array, and that is all

    def by_head(self, source: TensorSource, heads: int, cut: int) -> tuple[Float32, Float32]:
        whole = read_float32(source, self._weights).reshape(heads, -1, source.shape[1])
        first, rest = np.ascontiguousarray(whole[:, :cut]), np.ascontiguousarray(whole[:, cut:])
        return self._held(first), self._held(rest)

    def wide(self, source: TensorSource) -> Float32:
        return self._held(read_float32(source, self._weights))

    def wide_linear(self, matrix: TensorSource, bias: TensorSource | None) -> Linear:
        held = None if bias is None else self.wide(bias)
        made = _Linear if self.integers is None else RowLinear
        return made(self.wide(matrix), held)

    def linear(
        self, matrices: Sequence[TensorSource], biases: Sequence[TensorSource | None]
    ) -> Linear:
        bias = None
        if any(source is not None for source in biases):
            bias = np.zeros(sum(source.shape[0] for source in matrices), np.float32)
            first = 0
            for matrix, source in zip(matrices, biases, strict=True):
                if source is not None:
                    bias[first : first + matrix.shape[0]] = read_float32(source, self._weights)
                first += matrix.shape[0]
            self._held(bias)
        if self.integers is not None and blocks_of(matrices[0]) is not None:
            linear = self.integers.linear(matrices, self._weights, bias)
            self.bytes_held += linear.bytes_held - (0 if bias is None else bias.nbytes)
            return linear
        plain = _Linear(self._held(stack_float32(matrices, self._weights)), bias)
        if self._watch is None:
            return plain
        watch = self._watch

        def watched(rows: Float32) -> Float32:
            watch(matrices, rows)
            return plain(rows)

        return watched

    def linear_of(self, table: Any, bias: TensorSource | None) -> Linear:
        held = None if bias is None else self.vector(bias)
        if isinstance(table, BlockTable):
            return BlockLinear([table.product], held)
        return _Linear(table, held)


class _Program:
    """See blocks.Program."""

    def __init__(self, spec: ModelSpec, span: Span, reader: _Reader) -> None:
        self._integers = reader.integers
        tokens: Float32 | None = None
        self._embed: (
            tuple[EmbedSpec, TextWeights[Float32] | ImageWeights[Float32, Linear]] | None
        ) = None
        self._blocks: dict[int, tuple[BlockSpec, BlockWeights[Float32, Linear]]] = {}
        self._head: tuple[HeadSpec, HeadWeights[Float32, Linear]] | None = None
        for place in range(span.first, span.last):
            layer = spec.layers[place]
            match layer.part:
                case EmbedSpec() as part:
                    first = read_embed(layer, part, spec.width, place, reader)
                    self._embed = part, first
                    tokens = first.tokens if isinstance(first, TextWeights) else None
                case BlockSpec() as part:
                    block = read_block(layer, part, spec.width, place, reader)
                    self._blocks[place] = part, block
                case HeadSpec() as part:
                    last = read_head(layer, part, spec.width, place, reader, tokens)
                    self._head = part, last
        self.weight_bytes = reader.bytes_held
        self._layers = len(spec.layers)

    def run(self, parts: Sequence[Part[Float32]], span: Span) -> list[Output]:
        """Each part's output after the layers of `span`."""
        rows = self._enter(parts, span)
        turns: list[Turns] = [{} for _ in parts]
        held = [
            self._blocks[layer] for layer in range(span.first, span.last) if layer in self._blocks
        ]
        for place, (spec, weights) in enumerate(held):
            rows = _block(rows, place, spec, weights, parts, turns, self._integers)
        return self._leave(rows, parts, span)

    def _enter(self, parts: Sequence[Part[Float32]], span: Span) -> Float32:
        if self._embed is None or span.first > 0:
            return np.concatenate([part.hidden for part in parts if part.hidden is not None])
        return embed(*self._embed, parts)

    def _leave(self, rows: Float32, parts: Sequence[Part[Float32]], span: Span) -> list[Output]:
        cuts = np.cumsum([0, *(len(part.token_ids) for part in parts)]).tolist()
        if self._head is None or span.last < self._layers:
            return [Output(rows[a:b]) for a, b in pairwise(cuts)]
        return head(*self._head, rows, cuts, parts)


def _block(
    rows: Float32,
    place: int,
    spec: BlockSpec,
    weights: BlockWeights[Float32, Linear],
    parts: Sequence[Part[Float32]],
    turns: list[Turns],
    whole: Integers | None,
) -> Float32:
    """One block over the rows [N, D] of all parts."""
    scale = np.float32(spec.residual_scale)
    seen = rows if spec.flow == "post" else _norm(rows, spec, weights.attention_norm)
    mixed = _attention(seen, place, spec, weights, parts, turns, whole)
    mixed = _norm(mixed, spec, weights.attention_after_norm)
    mixed = _scaled(mixed, weights.attention_scale) * scale
    if spec.flow == "parallel":
        seen = seen if weights.mlp_norm is None else norm(rows, spec.norm, weights.mlp_norm)
        return rows + mixed + _mlp(seen, spec, weights) * scale
    if spec.flow == "post":
        rows = _norm(rows + mixed, spec, weights.attention_norm)
        return _norm(rows + _mlp(rows, spec, weights) * scale, spec, weights.mlp_norm)
    rows = (seen if spec.residual_from_norm else rows) + mixed
    seen = _norm(rows, spec, weights.mlp_norm)
    return (seen if spec.residual_from_norm else rows) + _mlp(seen, spec, weights) * scale


def _norm(rows: Float32, spec: BlockSpec, weights: NormWeights[Float32] | None) -> Float32:
    """A norm that may not be there."""
    return rows if weights is None else norm(rows, spec.norm, weights)


def _scaled(rows: Float32, scale: Float32 | None) -> Float32:
    """A scale [D] that may not be there."""
    return rows if scale is None else rows * scale


def _mlp(rows: Float32, spec: BlockSpec, weights: BlockWeights[Float32, Linear]) -> Float32:
    out = _norm(feed(rows, weights.mlp), spec, weights.mlp_after_norm)
    return _scaled(out, weights.mlp_scale)


def _attention(
    rows: Float32,
    place: int,
    block: BlockSpec,
    weights: BlockWeights[Float32, Linear],
    parts: Sequence[Part[Float32]],
    turns: list[Turns],
    whole: Integers | None,
) -> Float32:
    spec = block.attention
    if weights.latent is not None:
        return _latent_attention(rows, place, block, weights, weights.latent, parts, turns, whole)
    attend_so = attend if whole is None else whole.attend
    fused = weights.qkv(rows)
    widths = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim)
    queries, keys, values = np.split(fused, np.cumsum(widths), axis=1)
    queries = _by_head(queries, spec.heads, weights.q_norm, block)
    keys = _by_head(keys, spec.kv_heads, weights.k_norm, block)
    values = values.reshape(-1, spec.kv_heads, spec.v_head_dim)
    mixed = np.empty((rows.shape[0], spec.heads * spec.v_head_dim), np.float32)
    first = 0
    for part, turn in zip(parts, turns, strict=True):
        last = first + len(part.token_ids)
        query, key, value = queries[first:last], keys[first:last], values[first:last]
        if spec.rope is not None:
            cos, sin = _turn(spec.rope, part, turn)
            rotate(query, spec.rope, cos, sin)
            rotate(key, spec.rope, cos, sin)
        known_keys: Any = key.transpose(1, 0, 2)
        known_values: Any = value.transpose(1, 0, 2)
        if whole is not None and spec.causal:
            known_keys, known_values = kept(known_keys), kept(known_values)
        if part.blocks is not None:
            all_keys, all_values = part.blocks[place]
            all_keys[:, part.position : part.end] = known_keys
            all_values[:, part.position : part.end] = known_values
            known_keys, known_values = all_keys[:, : part.end], all_values[:, : part.end]
        out = attend_so(query, known_keys, known_values, part.position, spec, weights.sinks)
        mixed[first:last] = out.reshape(last - first, -1)
        first = last
    return weights.o(mixed)


def _turn(rope: Rope, part: Part[Float32], turn: Turns) -> tuple[Float32, Float32]:
    """Cosines and sines of a part's rows, made once."""
    if rope not in turn:
        positions = np.arange(part.position, part.end, dtype=np.float32)
        turn[rope] = rotation(rope, part.is_long, positions)
    return turn[rope]


def _latent_attention(
    rows: Float32,
    place: int,
    block: BlockSpec,
    weights: BlockWeights[Float32, Linear],
    latent: LatentWeights[Float32, Linear],
    parts: Sequence[Part[Float32]],
    turns: list[Turns],
    whole: Integers | None,
) -> Float32:
    queries, known = split_latent(rows, block, weights, latent)
    mixed = np.empty((rows.shape[0], latent.spec.heads, latent.spec.v_head_dim), np.float32)
    first = 0
    for part, turn in zip(parts, turns, strict=True):
        last = first + len(part.token_ids)
        query = queries[first:last]
        new: Any = known[first:last]
        if latent.spec.rope is not None:
            cos, sin = _turn(latent.spec.rope, part, turn)
            rotate(query[..., latent.latent.nope :], latent.spec.rope, cos, sin)
            rotate(new[:, None, latent.latent.kv_rank :], latent.spec.rope, cos, sin)
        if whole is not None:
            new = kept(new)
        if part.blocks is not None:
            memory, _ = part.blocks[place]
            memory[0, part.position : part.end] = new
            new = memory[0, : part.end]
        if whole is None:
            mixed[first:last] = attend_latent(query, new, part.position, latent)
        else:
            mixed[first:last] = attend_latent_by_rows(whole, query, new, latent)
        first = last
    return weights.o(mixed.reshape(rows.shape[0], -1))


def _by_head(rows: Float32, heads: int, weights: NormWeights[Float32], block: BlockSpec) -> Float32:
    """Rows [N, heads * W] as [N, heads, W], normed as the block's qk_norm says."""
    spec = block.attention
    if spec.qk_norm == "whole":
        rows = norm(rows, spec.qk or block.norm, weights)
    by_head = rows.reshape(rows.shape[0], heads, -1)
    return norm(by_head, spec.qk or block.norm, weights) if spec.qk_norm == "head" else by_head
