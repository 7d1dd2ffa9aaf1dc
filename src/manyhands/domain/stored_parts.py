"""Which stored tensors a tensor of a model is made of, and how one expert is cut out of many.

  experts        one matrix [out, in] an expert, each under a name of its own
  expert_stack   one tensor [experts, out, in], or [experts, out] of biases
  expert_turned  one tensor [experts, in, out]
  expert_pairs   the same, its outputs interleaved: gate 0, up 0, gate 1, up 1, …; undone, all gates
                 stand above all ups
  fp8_blocks     8-bit floats [out, in] and a factor for each `block` of them; of experts a name for
                 each of the two, expert after expert
  mxfp4          blocks of 32 4-bit floats [experts, out, in / 32, 16 bytes] and an exponent a block
  mxfp4_pairs    the same, outputs interleaved as in expert_pairs

Matrices in our own blocks are told of in `weight_format`. Knows nothing of files or arrays.
"""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import LayoutKind, TensorSource
from manyhands.domain.weight_format import block_parts, blocks_of

MXFP4_BLOCK = 32
"""Numbers that share an exponent."""

_ONE_TENSOR: tuple[LayoutKind, ...] = ("expert_stack", "expert_turned", "expert_pairs")
_MXFP4: tuple[LayoutKind, ...] = ("mxfp4", "mxfp4_pairs")


def expert_count(source: TensorSource) -> int:
    """How many experts a source is of; 0 for one that stands by itself, cut out or not."""
    is_of_many = source.layout in ("experts", *_ONE_TENSOR) or len(source.shape) > 2
    return source.shape[0] if is_of_many and source.last <= source.first else 0


def expert_of(source: TensorSource, expert: int) -> TensorSource:
    """The matrix, or bias, of one expert out of a source of all of them."""
    shape = source.shape[1:]
    match source.layout:
        case "experts":
            return TensorSource((source.names[expert],), shape)
        case "fp8_blocks":
            names = source.names[2 * expert : 2 * expert + 2]
            return replace(source, names=names, shape=shape)
        case _:
            count = source.shape[0]
            return replace(source, shape=shape, first=expert, last=expert + 1, of=count)


def stored_parts(source: TensorSource) -> tuple[TensorSource, ...]:
    """The stored tensors behind `source`, each by itself as a file holds it.

    Of a source that `expert_of` made, only that expert's part of each.
    """
    match source.layout:
        case "experts":
            return tuple(expert_of(source, expert) for expert in range(source.shape[0]))
        case "fp8_blocks" if len(source.shape) > 2:
            experts = (expert_of(source, expert) for expert in range(source.shape[0]))
            return tuple(part for expert in experts for part in stored_parts(expert))
        case "fp8_blocks":
            return _weight_and_factors(source)
        case _ if blocks_of(source) is not None:
            return block_parts(source)
        case layout if layout in _ONE_TENSOR or layout in _MXFP4:
            return _stacked(source)
        case _:
            return (source,)


def _weight_and_factors(source: TensorSource) -> tuple[TensorSource, ...]:
    blocks = source.block or source.shape
    grid = tuple(-(-side // block) for side, block in zip(source.shape, blocks, strict=True))
    weight, factors = source.names
    return TensorSource((weight,), source.shape), TensorSource((factors,), grid)


def _stacked(source: TensorSource) -> tuple[TensorSource, ...]:
    is_cut = source.last > source.first
    shape = source.shape if is_cut else source.shape[1:]
    inner: tuple[tuple[int, ...], ...]
    if source.layout in _MXFP4:
        out, into = shape
        blocks = -(-into // MXFP4_BLOCK)
        inner = ((out, blocks, MXFP4_BLOCK // 2), (out, blocks))
    elif source.layout == "expert_stack":
        inner = (shape,)
    else:
        inner = (shape[::-1],)  # of a bias the same
    if is_cut:
        one = source.last - source.first
        return tuple(
            TensorSource((name,), (one, *sides), "rows", source.first, source.last, source.of)
            for name, sides in zip(source.names, inner, strict=True)
        )
    return tuple(
        TensorSource((name,), (source.shape[0], *sides))
        for name, sides in zip(source.names, inner, strict=True)
    )
