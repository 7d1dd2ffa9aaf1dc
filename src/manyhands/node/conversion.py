"""Converts a model folder into one of our own layout: matrices in blocks of integers, or bfloat16.

Joins `store` (files) with `engine` (what stored tensors mean). Of a matrix some rows are in memory
at a time, where its file has them beside each other; of experts one; else one matrix.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyhands.codec import plain
from manyhands.codec.panels import PANEL, laid_out
from manyhands.codec.weight_blocks import Bits, quantise
from manyhands.domain.model_spec import ModuleSpec, TensorSource
from manyhands.domain.stored_parts import expert_count, expert_of, stored_parts
from manyhands.domain.weight_format import (
    METHOD,
    VERSION,
    StoredFormat,
    blocks_of,
    converted,
    dtype_of,
)
from manyhands.engine.weights import read_float32
from manyhands.errors import CheckpointError, NotServed, UserError
from manyhands.families.family import stored_format
from manyhands.node.thin import Thin, ranks_of
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.small_files import small_files
from manyhands.store.weight_files import layer_file
from manyhands.store.weight_writer import Planned, new_folder, write_weights

Told = Callable[[int], None]
"""Called with the stored bytes that were read and converted since the last call."""

PIECE_ELEMENTS = 2**22
"""Numbers of a matrix that become blocks at one time."""

_BITS: dict[str, Bits] = {"int8": 8, "int4": 4}


def convert(
    source: Checkpoint,
    form: StoredFormat,
    target: Path,
    told: Told,
    thin: Mapping[str, Thin] | None = None,
) -> None:
    """Write the model of `source` as `form` into the new folder `target`, whole or not at all.

    Matrices that are `thin` are written as those, see node/thin.

    The tokenizer and every other small file go along. Raises CheckpointError (the target is there,
    the source is converted already, a matrix holds NaN), ResourceError (disk).
    """
    was = stored_format(source.config)
    if was is not None:
        raise CheckpointError(
            f"{source.folder} was converted to {was} already; convert the model as it was published"
        )
    if any(isinstance(layer.part, ModuleSpec) for layer in source.spec.layers):
        raise NotServed(
            f"{source.folder}: {source.spec.family} has no family file and is run by transformers' "
            "own code, which multiplies no integers; run the model as it was published"
        )
    ranks = ranks_of(thin or {})
    spec = converted(source.spec, None if form == "bf16" else form, ranks)
    layers = [
        [
            (old.tensors[name], new.tensors[name])
            for name in new.tensors
            if not old.tensors[name].is_tied
        ]
        for old, new in zip(source.spec.layers, spec.layers, strict=True)
    ]
    due = [_layer(source, pairs, form, thin or {}, told) for pairs in layers]
    plan = {
        layer_file(number): [
            Planned(part.part.names[0].removeprefix(f"{number}."), part.dtype, part.part.shape)
            for part in parts
        ]
        for number, parts in enumerate(due)
        if parts
    }

    with new_folder(target) as folder:
        write_weights(folder, plan, _all_pieces(due))
        _copy_others(source.folder, folder)
        config = {**source.config, "quantization_config": _described(form, ranks)}
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _described(form: StoredFormat, ranks: Mapping[str, int]) -> dict[str, Any]:
    """What a converted folder's config.json says of itself."""
    told: dict[str, Any] = {"quant_method": METHOD, "version": VERSION, "format": form}
    return {**told, "low_rank": dict(ranks)} if ranks else told


def _dtype(source: Checkpoint, old: TensorSource, form: StoredFormat) -> str:
    """What a tensor that does not become blocks is kept as: bfloat16 what others quantised."""
    dtype = "BF16" if form == "bf16" else source.dtype(old.names[0])
    return dtype if dtype in ("F32", "F16", "BF16") else "BF16"


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor that will be stored: where, as what, its bytes in pieces made when asked for."""

    part: TensorSource
    dtype: str
    pieces: Iterable[memoryview]


def _layer(
    source: Checkpoint,
    pairs: Sequence[tuple[TensorSource, TensorSource]],
    form: StoredFormat,
    thin: Mapping[str, Thin],
    told: Told,
) -> list[_Part]:
    """What is stored of a layer, in order: codes of all its matrices, their scales, then the rest.

    So matrices that engines hold under each other lie so in the file, and are not copied. Of all
    experts the scales would be too many to keep until then: they come behind their codes.
    """
    codes: list[_Part] = []
    scales: list[_Part] = []
    rest: list[_Part] = []
    for old, new in pairs:
        found = thin.get(new.names[0].removesuffix(".left"))
        pieces = _parts(source, old, new, form, told) if found is None else _thin_parts(found)
        parts = [
            _Part(part, dtype_of(new, part) or _dtype(source, old, form), some)
            for part, some in zip(stored_parts(new), pieces, strict=True)
        ]
        if found is None and blocks_of(new) is not None and not expert_count(old):
            codes.append(parts[0])
            scales.append(parts[1])
        else:
            rest += parts
    return codes + scales + rest


def _all_pieces(due: list[list[_Part]]) -> Iterator[Iterable[memoryview]]:
    """The pieces of every part; what was written is forgotten."""
    due.reverse()
    while due:
        parts = due.pop()
        parts.reverse()
        while parts:
            yield parts.pop().pieces


def _parts(
    source: Checkpoint, old: TensorSource, new: TensorSource, stored: StoredFormat, told: Told
) -> tuple[Iterable[memoryview], ...]:
    """The bytes of each stored part of a tensor; nothing is read before they are asked for.

    Of a matrix in blocks the scales come behind all codes, and are kept until then.
    """
    form = blocks_of(new)
    if form is None:
        dtype = _dtype(source, old, stored)
        return ((_plain(numbers, dtype) for _, numbers in _pieces(source, old, told)),)
    scales: list[memoryview] = []

    def codes() -> Iterator[memoryview]:
        for name, numbers in _pieces(source, old, told):
            try:
                panels = laid_out(quantise(numbers, _BITS[form]))
            except UserError as error:
                raise CheckpointError(f"{source.folder}: tensor {name!r}: {error}") from error
            scales.append(_bytes(panels.scales))
            yield _bytes(panels.codes)

    return codes(), scales


def _thin_parts(thin: Thin) -> tuple[Iterable[memoryview], ...]:
    found = [laid_out(blocks) for blocks in (thin.left, thin.right)]
    arrays = (array for panels in found for array in (panels.codes, panels.scales))
    return tuple((_bytes(array),) for array in arrays)


def _pieces(
    source: Checkpoint, old: TensorSource, told: Told
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """A tensor's numbers, some rows at a time, and the name that they have in the file."""
    for some in _cuts(old):
        before = source.bytes_read
        numbers = read_float32(some, source.read)
        told(source.bytes_read - before)
        step = _rows_of_a_piece(some)
        for first in range(0, numbers.shape[0], step):
            yield some.names[0], numbers[first : first + step]


def _cuts(old: TensorSource) -> Iterator[TensorSource]:
    """A tensor as its file gives it: one expert at a time, of a plain matrix some rows."""
    experts, rows, step = expert_count(old), old.shape[0], _rows_of_a_piece(old)
    if experts:
        for expert in range(experts):
            yield from _cuts(expert_of(old, expert))
    elif old.layout != "plain":
        yield old
    else:
        for first in range(0, rows, step):
            last = min(first + step, rows)
            shape = (last - first, *old.shape[1:])
            yield replace(old, layout="rows", shape=shape, first=first, last=last, of=rows)


def _rows_of_a_piece(source: TensorSource) -> int:
    """Whole panels, so that pieces of one matrix meet without a gap."""
    return PANEL * max(1, PIECE_ELEMENTS // math.prod(source.shape[1:]) // PANEL)


def _plain(numbers: NDArray[np.float32], dtype: str) -> memoryview:
    flat = np.ascontiguousarray(numbers).reshape(1, -1)
    if dtype == "BF16":
        return memoryview(plain.BFloat16().encode(flat))
    return _bytes(flat.astype(np.float16 if dtype == "F16" else np.float32))


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _copy_others(source: Path, target: Path) -> None:
    for name in small_files(source):
        if name != "config.json":
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, target / name)
