"""Converted folders of tiny models, and the same numbers as a float32 model to compare with.

plain, made = folders("mixtral", "int4")   # checkpoints: as published, converted; made once
spec, weights = dequantised(plain, made)   # what the codes stand for, for any engine
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import tiny
from manyhands.domain.model_spec import ModelSpec, TensorSource
from manyhands.domain.stored_parts import expert_count, expert_of
from manyhands.domain.tensor_frame import StoredTensor
from manyhands.domain.weight_format import converted
from manyhands.engine.engine import Weights
from manyhands.engine.weights import read_float32
from manyhands.node.conversion import convert
from manyhands.store.checkpoint import Checkpoint

Folders = Callable[[str, str], tuple[Checkpoint, Checkpoint]]


def folders_in(place: Path) -> Folders:
    """Makes (case, form) below `place`, each once; not to be changed."""
    made: dict[tuple[str, str], tuple[Checkpoint, Checkpoint]] = {}

    def folders(case: str, form: str) -> tuple[Checkpoint, Checkpoint]:
        if (case, form) not in made:
            plain = place / case / "plain"
            source = Checkpoint.open(plain if plain.exists() else tiny.make(case, plain))
            convert(source, form, place / case / form, lambda _: None)
            made[case, form] = source, Checkpoint.open(place / case / form)
        return made[case, form]

    return folders


def whole(source: TensorSource, weights: Weights) -> np.ndarray:
    """A tensor in float32; of experts all of them."""
    count = expert_count(source)
    if not count:
        return read_float32(source, weights)
    return np.stack([read_float32(expert_of(source, e), weights) for e in range(count)])


def dequantised(plain: Checkpoint, made: Checkpoint) -> tuple[ModelSpec, Weights]:
    """The model that the numbers of `made` stand for, in float32 and in our own layout."""
    spec = converted(plain.spec, None)
    held = {
        layer.tensors[name].names[0]: np.ascontiguousarray(whole(source, made.read))
        for layer, new in zip(spec.layers, made.spec.layers, strict=True)
        for name, source in new.tensors.items()
    }

    def weights(source: TensorSource) -> StoredTensor:
        array = held[source.names[0]]
        if source.layout == "rows":
            array = array[source.first : source.last]
        return StoredTensor("F32", array.shape, array.reshape(-1).view(np.uint8).data)

    return spec, weights


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each row with the other's."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return (one * other).sum(-1) / lengths
