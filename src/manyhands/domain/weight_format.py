"""Weight formats: which tensors of a model are stored as small integers, and under which names.

A converted folder is laid out as our tables are: tensor `q` of layer 3 is `3.q`, in the shape the
engines compute with, whatever the family called it. A matrix in blocks is two tensors, its codes
and, at `….scales`, a bfloat16 for each 32 of them. Knows nothing of files or arrays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from manyhands.domain.model_spec import LayerSpec, LayoutKind, ModelSpec, TensorSource
from manyhands.domain.tensor_frame import DTYPE_BYTES

IntegerFormat = Literal["int8", "int4"]
"""What the matrices of a model are stored as; the rest keeps its dtype."""

INTEGER_FORMATS: tuple[IntegerFormat, ...] = get_args(IntegerFormat)

StoredFormat = Literal["int8", "int4", "bf16"]
"""What a folder can be converted to; bf16 rounds, and keeps our layout."""

STORED_FORMATS: tuple[StoredFormat, ...] = get_args(StoredFormat)

METHOD = "manyhands"
"""What `quantization_config` of a converted folder's config.json has as its `quant_method`."""

VERSION = 1
"""Of the layout; a folder of a later one is refused."""

SCALED = 32
"""Numbers of a row that share a scale; `codec/weight_blocks` has the same."""

_CODES_DTYPE = {"int8": "I8", "int4": "U8"}
_SCALES_DTYPE = "BF16"

_LAYOUTS: dict[LayoutKind, IntegerFormat] = {
    "int8_blocks": "int8",
    "int8_tied": "int8",
    "int4_blocks": "int4",
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

    Of one expert that was cut out, its part of each.
    """
    *front, width = source.shape
    blocks = -(-width // SCALED)
    codes = blocks * (SCALED if blocks_of(source) == "int8" else SCALED // 2)
    stored = ((source.names[:1], codes), (source.names[1:], blocks))
    one = source.last - source.first
    if one > 0:
        where = source.first, source.last, source.of
        cut = [TensorSource(name, (one, *front, last), "rows", *where) for name, last in stored]
        return cut[0], cut[1]
    whole = [TensorSource(name, (*front, last)) for name, last in stored]
    return whole[0], whole[1]


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
                parts = codes_and_scales(source)
                held += sum(DTYPE_BYTES[dtype_of(source, p) or ""] * p.elements for p in parts)
    return held / max(1.0, total)


def dtype_of(source: TensorSource, part: TensorSource) -> str | None:
    """The dtype that a part of a matrix in blocks must have; None for any that is served."""
    form = blocks_of(source)
    if form is None:
        return None
    return _CODES_DTYPE[form] if part.names == source.names[:1] else _SCALES_DTYPE


def converted(spec: ModelSpec, form: IntegerFormat | None) -> ModelSpec:
    """The spec of the same model in our own layout; `form` None keeps every number as it is."""
    layers = tuple(
        LayerSpec(
            layer.part,
            {name: _restated(place, name, source, form) for name, source in layer.tensors.items()},
        )
        for place, layer in enumerate(spec.layers)
    )
    return replace(spec, layers=layers)


def _restated(
    place: int, name: str, source: TensorSource, form: IntegerFormat | None
) -> TensorSource:
    """Where a tensor stands in a converted folder; a tied head stands where the embedding does.

    What there is of each expert is one tensor, expert after expert.
    """
    at = "0.tokens" if source.is_tied else f"{place}.{name}"
    if form is None or name not in _MATRICES:
        plain: LayoutKind = "expert_stack" if name.startswith("experts.") else "plain"
        return TensorSource((at,), source.shape, "tied" if source.is_tied else plain)
    layout: LayoutKind = "int8_blocks" if form == "int8" or name in _ENDS else "int4_blocks"
    if source.is_tied:
        layout = "int8_tied"
    return TensorSource((at, f"{at}.scales"), source.shape, layout)
