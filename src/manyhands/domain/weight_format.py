"""Weight formats: which tensors of a model are stored as small integers, and under which names.

A converted folder is laid out as our tables are: tensor `q` of layer 3 is `3.q`, in the shape the
engines compute with, whatever the family called it; each layer lies in a file of its own. A matrix
in blocks is two tensors, its codes and, at `….scales`, a bfloat16 for each 32 of them, both in
panels of 16 outputs as kernels read them (`codec/panels`). One of low rank is two matrices in int8
blocks, `….left` [out, rank] and `….right` [rank, in], applied one after the other. Knows nothing of
files or arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from manyhands.domain.model_spec import LayerSpec, LayoutKind, ModelSpec, TensorSource
from manyhands.domain.tensor_frame import DTYPE_BYTES
from manyhands.errors import CheckpointError

IntegerFormat = Literal["int8", "int4"]
"""What the matrices of a model are stored as; the rest keeps its dtype."""

INTEGER_FORMATS: tuple[IntegerFormat, ...] = get_args(IntegerFormat)

StoredFormat = Literal["int8", "int4", "bf16"]
"""What a folder can be converted to; bf16 rounds, and keeps our layout."""

STORED_FORMATS: tuple[StoredFormat, ...] = get_args(StoredFormat)

METHOD = "manyhands"
"""What `quantization_config` of a converted folder's config.json has as its `quant_method`."""

VERSION = 2
"""Of the layout; a folder of another one is refused."""

SCALED = 32
"""Numbers of a row that share a scale; `codec/weight_blocks` has the same."""

PANEL = 16
"""Outputs that lie beside each other; `codec/panels` has the same."""

_CODES_DTYPE = "U8"
_SCALES_DTYPE = "BF16"

_LAYOUTS: dict[LayoutKind, IntegerFormat] = {
    "int8_blocks": "int8",
    "int8_tied": "int8",
    "int4_blocks": "int4",
    "low_rank": "int8",
}
_ENDS = frozenset(("tokens", "patches", "dense", "head"))
"""int8 even where the blocks are int4: every token goes through them, and they are few."""

_MATRICES = _ENDS | frozenset(
    ("q", "k", "v", "o", "gate", "up", "down", "q_down", "q_up", "kv_down",
     "shared.gate", "shared.up", "shared.down",
     "experts.gate", "experts.up", "experts.gate_up", "experts.down")
)  # fmt: skip


def blocks_of(source: TensorSource) -> IntegerFormat | None:
    """What a matrix is stored as if it is stored in blocks, else None."""
    return _LAYOUTS.get(source.layout)


def weight_format(spec: ModelSpec) -> IntegerFormat | None:
    """The smallest format that any matrix of a model is stored in; None for a plain model."""
    found = {blocks_of(source) for layer in spec.layers for source in layer.tensors.values()}
    return "int4" if "int4" in found else "int8" if "int8" in found else None


def codes_and_scales(source: TensorSource) -> tuple[TensorSource, TensorSource]:
    """The two stored tensors behind a matrix in blocks, or behind one for each expert.

    Of one expert that was cut out, its part of each. Not of low rank: see `block_parts`.
    """
    *front, outs, width = source.shape
    front.append(-(-outs // PANEL))
    blocks = PANEL * -(-width // SCALED)
    codes = blocks * (SCALED if blocks_of(source) == "int8" else SCALED // 2)
    stored = ((source.names[:1], codes), (source.names[1:], blocks))
    one = source.last - source.first
    if one > 0:
        where = source.first, source.last, source.of
        cut = [TensorSource(name, (one, *front, last), "rows", *where) for name, last in stored]
        return cut[0], cut[1]
    whole = [TensorSource(name, (*front, last)) for name, last in stored]
    return whole[0], whole[1]


def thin_matrices(source: TensorSource) -> tuple[TensorSource, TensorSource]:
    """The left [out, rank] and the right [rank, in] one of a matrix of low rank."""
    out, into = source.shape
    return (
        TensorSource(source.names[:2], (out, source.of), "int8_blocks"),
        TensorSource(source.names[2:], (source.of, into), "int8_blocks"),
    )


def block_parts(source: TensorSource) -> tuple[TensorSource, ...]:
    """All stored tensors behind a matrix in blocks: codes, scales; of low rank twice."""
    if source.layout != "low_rank":
        return codes_and_scales(source)
    left, right = thin_matrices(source)
    return *codes_and_scales(left), *codes_and_scales(right)


def bytes_of_blocks(source: TensorSource) -> int:
    """Bytes that a matrix in blocks takes."""
    return sum(DTYPE_BYTES[dtype_of(source, p) or ""] * p.elements for p in block_parts(source))


def bytes_per_number(spec: ModelSpec, plain: float) -> float:
    """Bytes a weight takes on average, when one that is not in blocks takes `plain`."""
    total = held = 0.0
    for layer in spec.layers:
        for source in layer.tensors.values():
            if source.is_tied:
                continue
            total += source.elements
            if blocks_of(source) is None:
                held += source.elements * plain
            else:
                held += bytes_of_blocks(source)
    return held / max(1.0, total)


def dtype_of(source: TensorSource, part: TensorSource) -> str | None:
    """The dtype that a part of a matrix in blocks must have; None for any that is served."""
    if blocks_of(source) is None:
        return None
    is_codes = source.names.index(part.names[0]) % 2 == 0
    return _CODES_DTYPE if is_codes else _SCALES_DTYPE


def converted(
    spec: ModelSpec, form: IntegerFormat | None, ranks: Mapping[str, int] | None = None
) -> ModelSpec:
    """The spec of the same model in our own layout; `form` None keeps every number as it is.

    `ranks` has the matrices of low rank by their place and name, as `3.q`. Raises CheckpointError
    for one that cannot be so.
    """
    left = dict(ranks or {})
    layers = tuple(
        LayerSpec(
            layer.part,
            {
                name: _restated(place, name, source, form, left.pop(f"{place}.{name}", None))
                for name, source in layer.tensors.items()
            },
        )
        for place, layer in enumerate(spec.layers)
    )
    if left:
        raise CheckpointError(f"config.json gives ranks to {', '.join(left)}, which is no matrix")
    return replace(spec, layers=layers)


def may_be_thin(name: str, source: TensorSource) -> bool:
    """True for a matrix of a block that may be of low rank instead."""
    return name in _MATRICES - _ENDS and len(source.shape) == 2


def _restated(
    place: int, name: str, source: TensorSource, form: IntegerFormat | None, rank: int | None
) -> TensorSource:
    """Where a tensor stands in a converted folder; a tied head stands where the embedding does.

    What there is of each expert is one tensor, expert after expert.
    """
    at = "0.tokens" if source.is_tied else f"{place}.{name}"
    if rank is not None:
        if form is None or not may_be_thin(name, source) or not 1 <= rank <= min(source.shape):
            raise CheckpointError(
                f"config.json gives rank {rank} to {at}, a tensor {list(source.shape)}; convert "
                "the model again"
            )
        names = (f"{at}.left", f"{at}.left.scales", f"{at}.right", f"{at}.right.scales")
        return TensorSource(names, source.shape, "low_rank", of=rank)
    if form is None or name not in _MATRICES:
        plain: LayoutKind = "expert_stack" if name.startswith("experts.") else "plain"
        return TensorSource((at,), source.shape, "tied" if source.is_tied else plain)
    layout: LayoutKind = "int8_blocks" if form == "int8" or name in _ENDS else "int4_blocks"
    if source.is_tied:
        layout = "int8_tied"
    return TensorSource((at, f"{at}.scales"), source.shape, layout)
