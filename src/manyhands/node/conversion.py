"""Converts a model folder into one of our own layout: matrices in blocks of integers, or bfloat16.

Joins `store` (files) with `engine` (what stored tensors mean). One matrix is in memory at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyhands.codec import plain
from manyhands.codec.weight_blocks import Bits, packed, quantise
from manyhands.domain.model_spec import TensorSource
from manyhands.domain.stored_parts import stored_parts
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
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.weight_writer import Planned, new_folder, write_weights

Told = Callable[[int], None]
"""Called with the stored bytes that were read and converted since the last call."""

MOST_OTHER_BYTES = 64 * 2**20
"""Larger files that are no weights are not copied."""

PIECE_ELEMENTS = 2**22
"""Numbers of a matrix that become blocks at one time."""

_BITS: dict[str, Bits] = {"int8": 8, "int4": 4}
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".gguf", ".index.json", ".h5", ".msgpack")


def convert(source: Checkpoint, form: StoredFormat, target: Path, told: Told) -> None:
    """Write the model of `source` as `form` into the new folder `target`, whole or not at all.

    The tokenizer and every other small file go along. Raises CheckpointError (the target is there,
    the source is converted already, a matrix holds NaN), ResourceError (disk).
    """
    was = stored_format(source.config)
    if was is not None:
        raise CheckpointError(
            f"{source.folder} was converted to {was} already; convert the model as it was published"
        )
    for block in source.spec.blocks:
        attention = block.attention
        if block.moe is not None or attention.latent is not None or not attention.causal:
            raise NotServed(
                f"{source.folder}: mixtures of experts, latent attention and encoders are not "
                "converted by this version; run the model as it was published"
            )
    spec = converted(source.spec, None if form == "bf16" else form)
    pairs: list[tuple[TensorSource, TensorSource]] = []
    for old, new in zip(source.spec.layers, spec.layers, strict=True):
        pairs += [
            (old.tensors[name], new.tensors[name])
            for name in new.tensors
            if not old.tensors[name].is_tied
        ]
    kept = {id(old): _dtype(source, old, form) for old, _ in pairs}
    plan = [
        Planned(part.names[0], dtype_of(new, part) or kept[id(old)], part.shape)
        for old, new in pairs
        for part in stored_parts(new)
    ]

    def tensors() -> Iterator[Sequence[memoryview]]:
        for old, new in pairs:
            before = source.bytes_read
            parts = _parts(source, old, new, kept[id(old)])
            told(source.bytes_read - before)
            yield from parts

    with new_folder(target) as folder:
        write_weights(folder, plan, tensors())
        _copy_others(source.folder, folder)
        config = {
            **source.config,
            "quantization_config": {"quant_method": METHOD, "version": VERSION, "format": form},
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _dtype(source: Checkpoint, old: TensorSource, form: StoredFormat) -> str:
    """What a tensor that does not become blocks is kept as."""
    dtype = "BF16" if form == "bf16" else source.dtype(old.names[0])
    return dtype if dtype in ("F32", "F16", "BF16") else "F32"


def _parts(
    source: Checkpoint, old: TensorSource, new: TensorSource, dtype: str
) -> tuple[list[memoryview], ...]:
    """The bytes of each stored part of a tensor, in pieces of some rows."""
    numbers = read_float32(old, source.read)
    form = blocks_of(new)
    if form is None:
        return ([_plain(numbers, dtype)],)
    codes, scales = [], []
    step = max(1, PIECE_ELEMENTS // numbers.shape[1])
    for first in range(0, numbers.shape[0], step):
        try:
            blocks = quantise(numbers[first : first + step], _BITS[form])
        except UserError as error:
            raise CheckpointError(f"{source.folder}: tensor {old.names[0]!r}: {error}") from error
        codes.append(_bytes(packed(blocks)))
        scales.append(_bytes(blocks.scales))
    return codes, scales


def _plain(numbers: NDArray[np.float32], dtype: str) -> memoryview:
    flat = np.ascontiguousarray(numbers).reshape(1, -1)
    if dtype == "BF16":
        return memoryview(plain.BFloat16().encode(flat))
    return _bytes(flat.astype(np.float16 if dtype == "F16" else np.float32))


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _copy_others(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        is_other = file.is_file() and not file.name.endswith(_WEIGHTS)
        if is_other and file.name != "config.json" and file.stat().st_size <= MOST_OTHER_BYTES:
            shutil.copyfile(file, target / file.name)
