"""Finds experts in a file that stacks them, as transformers 5 may write what it keeps in memory.

Published files have a tensor an expert, and so have the tables of their families. A stack holds the
same numbers: `experts.gate_up_proj` [experts, gate rows then up rows, width] and
`experts.down_proj`, under transformers' own module names. Knows nothing of bytes: a part of a
tensor's place is a place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from manyhands.domain.model_spec import LayerSpec, ModelSpec, TensorSource
from manyhands.errors import CheckpointError
from manyhands.store.safetensors_header import Place

_HALVES = {
    "experts.gate": ("gate_up_proj", 0, 2),
    "experts.up": ("gate_up_proj", 1, 2),
    "experts.down": ("down_proj", 0, 1),
}
"""Of a table's name: the stack, which part of each expert in it, out of how many."""

_MODULES = {"block_sparse_moe": "mlp"}
"""Modules that published files call otherwise than transformers 5 does."""


def unstacked(spec: ModelSpec, places: Mapping[str, Place]) -> dict[str, Place]:
    """`places` with the names of `spec` for experts that lie in stacks instead of the stacks'.

    Raises CheckpointError for a stack of another shape than the spec's experts make.
    """
    found = dict(places)
    for layer in spec.layers:
        stacked = {
            name: source
            for name, source in layer.tensors.items()
            if source.layout == "experts" and source.names[0] not in places
        }
        if stacked:
            _unstack(layer, stacked, found)
    return found


def _unstack(
    layer: LayerSpec, stacked: Mapping[str, TensorSource], found: dict[str, Place]
) -> None:
    used = set()
    for name, source in stacked.items():
        ending, part, parts = _HALVES[name]
        stack = f"{_module(source.names[0].split('.experts.')[0])}.experts.{ending}"
        if stack in found:
            found.update(_experts(source, stack, found[stack], part, parts))
            used.add(stack)
    for stack in used:
        del found[stack]
    for source in layer.tensors.values():
        name = source.names[0]
        if name not in found and _module(name) in found:
            found[name] = found.pop(_module(name))


def _module(name: str) -> str:
    """`name` with the modules as transformers 5 calls them."""
    return ".".join(_MODULES.get(word, word) for word in name.split("."))


def _experts(
    source: TensorSource, stack: str, place: Place, part: int, parts: int
) -> dict[str, Place]:
    experts, rows, into = source.shape
    if place.shape != (experts, parts * rows, into):
        raise CheckpointError(
            f"{place.file}: tensor {stack!r} has shape {list(place.shape)}, config.json asks for "
            f"{[experts, parts * rows, into]}; they do not belong together"
        )
    size = (place.last - place.first) // (experts * parts)
    firsts = (place.first + (expert * parts + part) * size for expert in range(experts))
    return {
        name: replace(place, shape=(rows, into), first=first, last=first + size)
        for name, first in zip(source.names, firsts, strict=True)
    }
