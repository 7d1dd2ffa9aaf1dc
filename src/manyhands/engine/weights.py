"""Stored tensors -> float32 numpy arrays: checks their shapes, undoes their layouts, widens dtypes.

Layouts served: plain, flat, tied, transpose, rows (which come already cut), columns, those of one
expert, and what is quantised, by us or by others, which is computed into float32 here. Knows
nothing of layers or torch: an engine of another dtype fills its arrays piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.stored_parts import stored_parts
from manyhands.domain.tensor_frame import DTYPE_BYTES, StoredTensor
from manyhands.domain.weight_format import blocks_of
from manyhands.engine.block_weights import read_plain
from manyhands.engine.dequantise import fp8_blocks, mxfp4
from manyhands.engine.engine import Weights
from manyhands.errors import CheckpointError, NotServed

Float32 = NDArray[np.float32]

NUMPY_FORM: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""Served dtypes and what numpy reads them as; bfloat16, which it lacks, comes as its bits."""

_BITS_FORM = {"U8": np.uint8, "F8_E4M3": np.uint8}
"""The same of what only quantised layouts are made of."""

_ONE_EXPERT = ("expert_stack", "expert_turned", "expert_pairs")
_SERVED_LAYOUTS = (
    *("plain", "flat", "tied", "transpose", "rows", "columns"),
    *("fp8_blocks", "mxfp4", "mxfp4_pairs"),
    *_ONE_EXPERT,
)


def raw_rows(source: TensorSource, weights: Weights) -> tuple[str, NDArray[np.generic]]:
    """Read a tensor: its dtype name and its numbers in `source.shape`, bfloat16 as their bits.

    A view of the bytes read, and read-only, unless it was quantised. Raises NotServed (layout,
    dtype) and CheckpointError (another shape than the table says, too few bytes).
    """
    if blocks_of(source) is not None:
        return "F32", read_plain(source, weights)
    match source.layout:
        case "fp8_blocks":
            return "F32", _read_fp8(source, weights)
        case "mxfp4" | "mxfp4_pairs":
            return "F32", _read_mxfp4(source, weights)
        case layout if layout in _ONE_EXPERT:
            return _read_expert(source, weights)
        case layout if layout in _SERVED_LAYOUTS:
            return _read(source, weights, NUMPY_FORM)
        case _:
            raise NotServed(
                f"tensor {source.names[0]!r}: layout {source.layout} is not served by this engine; "
                f"served are {', '.join(_SERVED_LAYOUTS)}"
            )


def stored_dtype(tables: Iterable[Mapping[str, TensorSource]], weights: Weights) -> str:
    """The dtype name of layers' weights, as their smallest tensor says.

    Not experts, which may be quantised, nor routers, which may be wider than everything else.
    """
    sources = [
        source
        for table in tables
        for name, source in table.items()
        if not name.startswith(("experts.", "router"))
    ]
    return weights(min(sources, key=lambda source: source.elements)).dtype


def _read(
    source: TensorSource, weights: Weights, forms: Mapping[str, type[np.generic]]
) -> tuple[str, NDArray[np.generic]]:
    stored = weights(source)
    form = forms.get(stored.dtype)
    if form is None:
        raise NotServed(
            f"tensor {source.names[0]!r} is stored as {stored.dtype}; this engine reads "
            f"{', '.join(forms)}; convert the checkpoint"
        )
    expected = source.shape if source.layout == "rows" else source.stored_shape
    if source.layout == "flat" and math.prod(stored.shape) == source.elements:
        stored = replace(stored, shape=expected)
    _check(source, stored, expected)
    array = np.frombuffer(stored.data, dtype=form).reshape(expected)
    return stored.dtype, _undone(source, array)


def _undone(source: TensorSource, array: NDArray[np.generic]) -> NDArray[np.generic]:
    if source.layout == "transpose":
        return array.T
    if source.layout == "columns":
        runs = array.T.reshape(source.runs, source.of, -1)
        return runs[:, source.first : source.last].reshape(source.shape)
    return array


def _read_expert(source: TensorSource, weights: Weights) -> tuple[str, NDArray[np.generic]]:
    """One expert's matrix or bias out of the tensor of all."""
    (part,) = stored_parts(source)
    dtype, array = _read(part, weights, NUMPY_FORM)
    one = array[0]
    if source.layout != "expert_stack":
        one = one.T
    return dtype, _gates_first(one) if source.layout == "expert_pairs" else one


def _gates_first(rows: NDArray[np.generic]) -> NDArray[np.generic]:
    """Rows gate 0, up 0, gate 1, … as all gates above all ups."""
    pairs = rows.reshape(-1, 2, *rows.shape[1:])
    return pairs.swapaxes(0, 1).reshape(rows.shape)


def _read_mxfp4(source: TensorSource, weights: Weights) -> Float32:
    blocks, exponents = (
        _read(part, weights, _BITS_FORM)[1][0].view(np.uint8) for part in stored_parts(source)
    )
    wide = mxfp4(blocks, exponents)[:, : source.shape[1]]
    return wide if source.layout == "mxfp4" else _gates_first(wide).view(np.float32)


def _read_fp8(source: TensorSource, weights: Weights) -> Float32:
    numbers, factors = stored_parts(source)
    bits = _read(numbers, weights, _BITS_FORM)[1].view(np.uint8)
    block = source.block or (source.shape[0], source.shape[1])
    return fp8_blocks(bits, read_float32(factors, weights), block)


def _check(source: TensorSource, stored: StoredTensor, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise CheckpointError(
            f"tensor {source.names[0]!r} has shape {list(stored.shape)}, the model needs "
            f"{list(expected)}; config.json and the weights do not belong together"
        )
    needed_bytes = math.prod(expected) * DTYPE_BYTES[stored.dtype]
    if stored.data.nbytes != needed_bytes:
        raise CheckpointError(
            f"tensor {source.names[0]!r} came with {stored.data.nbytes} bytes, not {needed_bytes}; "
            "the file is cut short or damaged; download it again"
        )


def widen(target: Float32, dtype: str, raw: NDArray[np.generic]) -> None:
    """Write `raw` (as `raw_rows` gives it) into `target` of the same shape; no value changes."""
    if dtype == "BF16":
        # A bfloat16 is the upper half of a float32.
        np.left_shift(raw, 16, out=target.view(np.uint32), dtype=np.uint32, casting="unsafe")
    else:
        np.copyto(target, raw, casting="same_kind")


def read_float32(source: TensorSource, weights: Weights) -> Float32:
    """One tensor as float32, in `source.shape`; float32 that lies right is not copied."""
    dtype, raw = raw_rows(source, weights)
    if dtype == "F32" and raw.flags.c_contiguous:
        return raw.view(np.float32)
    target = np.empty(source.shape, np.float32)
    widen(target, dtype, raw)
    return target


def stack_float32(sources: Sequence[TensorSource], weights: Weights) -> Float32:
    """Matrices [rows_i, in], or vectors [rows_i], one under the other, as float32."""
    if len(sources) == 1:
        return read_float32(sources[0], weights)
    rows = sum(source.shape[0] for source in sources)
    target = np.empty((rows, *sources[0].shape[1:]), np.float32)
    first = 0
    for source in sources:
        dtype, raw = raw_rows(source, weights)
        widen(target[first : first + source.shape[0]], dtype, raw)
        first += source.shape[0]
    return target
