"""torch_blocks: interprets BlockSpec in torch on the CPU, in float32, bfloat16 or float16.

Linears run over the rows of all sessions of a batch at once, attention over each session alone.
Hidden states come and go as float32 numpy. Knows nothing of sessions: `blocks` keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from mmap import mmap
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from manyhands.domain.device import Device
from manyhands.domain.model_spec import (
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    ModelSpec,
    Rope,
)
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.weight_format import INTEGER_FORMATS, weight_format
from manyhands.engine import integers
from manyhands.engine.blocks import BlockEngine, Part
from manyhands.engine.compiled import kernel_set, new_crew
from manyhands.engine.engine import Output, Weights
from manyhands.engine.integers import Integers, integers_of
from manyhands.engine.kv_cache import KvCache
from manyhands.engine.layer_weights import (
    HeadWeights,
    ImageWeights,
    NormWeights,
    TextWeights,
    read_block,
    read_embed,
    read_head,
)
from manyhands.engine.served import check_served
from manyhands.engine.torch_attention import Block, attention
from manyhands.engine.torch_ends import embed, head
from manyhands.engine.torch_linear import Linear, is_packed, low_precision_is_native
from manyhands.engine.torch_math import ARITHMETIC
from manyhands.engine.torch_moe import feed
from manyhands.engine.torch_next import Together, is_for_kernel
from manyhands.engine.torch_rows import norm
from manyhands.engine.torch_step import Step
from manyhands.engine.torch_weights import TorchReader
from manyhands.engine.weights import stored_dtype
from manyhands.errors import BadSetting

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

DtypeName = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STORED = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}
_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}
"""How far logits of one text may lie apart between chunkings, at the usual size of logits."""


def load(
    spec: ModelSpec,
    span: Span,
    weights: Weights,
    *,
    kv_bytes: int,
    dtype: str = "auto",
    threads: int | None = None,
    device: Device | None = None,
    **options: Any,
) -> BlockEngine[Tensor]:
    """See engine.Load. Computes, and keeps keys and values, in `dtype`: fp32, bf16, fp16 or auto.

    auto is the checkpoint's own dtype where the CPU multiplies it natively, else fp32, as with
    integers, which keep keys and values in bf16. `threads` sets torch's threads for the calling
    thread, which must be the one that computes later. Raises BadSetting for another dtype or
    option.
    """
    if options:
        names = ", ".join(options)
        raise BadSetting(f"torch_blocks has no option {names}; it has dtype, threads, device")
    check_served(spec, span)
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = _DTYPES[resolve_dtype(dtype, spec, span, weights)]
    whole = integers_of(spec, threads)
    if whole is not None:
        crew, kept = whole.crew, torch.bfloat16
    else:
        crew, kept = None, chosen
        if chosen == torch.bfloat16:
            crew = new_crew(torch.get_num_threads())
    program = _Program(spec, span, TorchReader(weights, chosen, whole), chosen, whole, crew)

    def view(buffer: mmap, offset: int, shape: tuple[int, int, int]) -> Tensor:
        count = math.prod(shape)
        if not count:
            return torch.empty(shape, dtype=kept)
        return torch.frombuffer(buffer, dtype=kept, count=count, offset=offset).view(shape)

    cache = KvCache(kv_bytes, kept.itemsize, spec.context, view)
    return BlockEngine(spec, span, program, cache, device)


def resolve_dtype(dtype: str, spec: ModelSpec, span: Span, weights: Weights) -> DtypeName:
    """What `auto` means for this checkpoint on this machine; other names are checked and kept."""
    form = weight_format(spec)
    if form is not None:
        if dtype not in ("auto", "fp32"):
            raise BadSetting(
                f"dtype is {dtype!r}; a model in {form} is multiplied in integers and computes the "
                "rest in fp32: leave it out"
            )
        return "fp32"
    if dtype == "auto":
        tables = (layer.tensors for layer in spec.layers[span.first : span.last])
        dtype = _STORED.get(stored_dtype(tables, weights), "fp32")
        if dtype != "fp32" and not low_precision_is_native(_DTYPES[dtype]):
            dtype = "fp32"
    match dtype:
        case "fp32" | "bf16" | "fp16":
            return dtype
        case _:
            raise BadSetting(f"dtype is {dtype!r}; it must be auto, fp32, bf16 or fp16")


def profile(weights: str, weight_format: str, wire_codec: str, dtype: DtypeName) -> Profile:
    """The numeric form of this engine's results; `weights` names the weight files."""
    if weight_format in INTEGER_FORMATS:
        return integers.profile(weights, weight_format, "torch", ARITHMETIC, torch.__version__)
    layout = "onednn-packed" if is_packed(_DTYPES[dtype]) else "aten"
    if dtype == "bf16":
        layout += f"-{kernel_set()}"  # whose attention
    return Profile(
        weights=weights,
        weight_format=weight_format,
        arithmetic=f"{dtype} x {dtype} -> fp32, kept in {dtype}",
        kernels=f"torch-{dtype}-{ARITHMETIC}-{torch.__version__}-{layout}",
        wire_codec=wire_codec,
        row_invariant=False,  # the kernel, and so the order of additions, goes by the row count
        tolerance=_TOLERANCE[dtype],
    )


class _Program:
    """See blocks.Program."""

    def __init__(
        self,
        spec: ModelSpec,
        span: Span,
        reader: TorchReader,
        dtype: torch.dtype,
        whole: Integers | None,
        crew: Crew | None,
    ) -> None:
        self._width = spec.width
        self._integers = whole
        self._crew = crew
        self._dtype = dtype
        self._embed: tuple[EmbedSpec, TextWeights[Tensor] | ImageWeights[Tensor, Linear]] | None = (
            None
        )
        self._blocks: list[Block] = []
        ropes: dict[Rope, Rope] = {}
        self._head: tuple[HeadSpec, HeadWeights[Tensor, Linear]] | None = None
        tokens: Tensor | None = None
        for place in range(span.first, span.last):
            layer = spec.layers[place]
            match layer.part:
                case EmbedSpec() as part:
                    first = read_embed(layer, part, spec.width, place, reader)
                    self._embed = part, first
                    tokens = first.tokens if isinstance(first, TextWeights) else None
                case BlockSpec() as part:
                    block = read_block(layer, part, spec.width, place, reader)
                    # Equal ropes become one object, so that a step turns its positions once.
                    rope = part.attention.rope
                    rope = None if rope is None else ropes.setdefault(rope, rope)
                    together = None
                    if crew is not None and is_for_kernel(part.attention):
                        together = Together(crew, part.attention, rope, block.sinks)
                    self._blocks.append(Block(place, part, rope, block, together))
                case HeadSpec() as part:
                    last = read_head(layer, part, spec.width, place, reader, tokens)
                    self._head = part, last
        self.weight_bytes = reader.bytes_held
        self._layers = len(spec.layers)

    @torch.inference_mode()
    def run(self, parts: Sequence[Part[Tensor]], span: Span) -> list[Output]:
        """Each part's output after the layers of `span`."""
        step = Step(parts, self._dtype, self._integers, self._crew)
        rows = self._enter(step, span)
        blocks = [block for block in self._blocks if block.layer in span]
        for place, block in enumerate(blocks):
            rows = _run_block(rows, place, block, step)
        return self._leave(rows, step, span)

    def _enter(self, step: Step, span: Span) -> Tensor:
        if self._embed is None or span.first > 0:
            given = torch.empty(step.rows, self._width)
            target = given.numpy()
            for part, (first, last) in zip(step.parts, pairwise(step.cuts), strict=True):
                target[first:last] = part.hidden
            return given.to(self._dtype)
        return embed(*self._embed, step.parts, self._dtype)

    def _leave(self, rows: Tensor, step: Step, span: Span) -> list[Output]:
        if self._head is None or span.last < self._layers:
            hidden = rows.float().numpy()
            return [Output(hidden[a:b]) for a, b in pairwise(step.cuts)]
        return head(*self._head, rows, step.cuts, step.parts)


def _run_block(rows: Tensor, place: int, block: Block, step: Step) -> Tensor:
    """One block over the rows [N, D] of all parts, `place` of those that are run."""
    spec, weights, scale = block.spec, block.weights, block.spec.residual_scale
    seen = rows if spec.flow == "post" else _norm(rows, step, spec, weights.attention_norm)
    mixed = _norm(attention(seen, place, block, step), step, spec, weights.attention_after_norm)
    mixed = _scaled(mixed, weights.attention_scale)
    if spec.flow == "parallel":
        seen = (
            seen if weights.mlp_norm is None else norm(step.crew, rows, spec.norm, weights.mlp_norm)
        )
        rows = torch.add(rows, mixed, alpha=scale)
        return rows.add_(_mlp(seen, block, step), alpha=scale)
    if spec.flow == "post":
        rows = _norm(torch.add(rows, mixed, alpha=scale), step, spec, weights.attention_norm)
        return _norm(
            torch.add(rows, _mlp(rows, block, step), alpha=scale), step, spec, weights.mlp_norm
        )
    rows = torch.add(seen if spec.residual_from_norm else rows, mixed, alpha=scale)
    seen = _norm(rows, step, spec, weights.mlp_norm)
    return (seen if spec.residual_from_norm else rows).add_(_mlp(seen, block, step), alpha=scale)


def _norm(rows: Tensor, step: Step, spec: BlockSpec, weights: NormWeights[Tensor] | None) -> Tensor:
    """A norm that may not be there."""
    return rows if weights is None else norm(step.crew, rows, spec.norm, weights)


def _scaled(rows: Tensor, scale: Tensor | None) -> Tensor:
    """A scale [D] that may not be there."""
    return rows if scale is None else rows * scale


def _mlp(rows: Tensor, block: Block, step: Step) -> Tensor:
    weights = block.weights
    out = _norm(
        feed(rows, weights.mlp, step.apply, step.crew), step, block.spec, weights.mlp_after_norm
    )
    return _scaled(out, weights.mlp_scale)
