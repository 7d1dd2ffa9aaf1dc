"""Stored tensors -> float32 numpy arrays: checks their shapes, undoes their layouts, widens dtypes.

Layouts served: plain, flat, tied, transpose, and rows (which come already cut). Knows no layers and
no torch: an engine that computes in another dtype fills its arrays piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.tensor_frame import DTYPE_BYTES, StoredTensor
from manyhands.engine.engine import Weights
from manyhands.errors import CheckpointError, NotServed

Float32 = NDArray[np.float32]

NUMPY_FORM = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""Served dtypes and what numpy reads them as; bfloat16, which it lacks, comes as its bits."""

_SERVED_LAYOUTS = ("plain", "flat", "tied", "transpose", "rows")


def raw_rows(source: TensorSource, weights: Weights) -> tuple[str, NDArray[np.generic]]:
    """Read a tensor: its dtype name and its numbers in `source.shape`, bfloat16 as their bits.

    A view of the bytes read, and read-only. Raises NotServed (layout, dtype) and CheckpointError
    (another shape than the table says, too few bytes).
    """
    if source.layout not in _SERVED_LAYOUTS:
        raise NotServed(
            f"tensor {source.names[0]!r}: layout {source.layout} is not served by this engine; "
            f"served are {', '.join(_SERVED_LAYOUTS)}"
        )
    stored = weights(source)
    form = NUMPY_FORM.get(stored.dtype)
    if form is None:
        raise NotServed(
            f"tensor {source.names[0]!r} is stored as {stored.dtype}; this engine reads "
            f"{', '.join(NUMPY_FORM)}; convert the checkpoint"
        )
    is_turned = source.layout == "transpose"
    expected = source.shape[::-1] if is_turned else source.shape
    if source.layout == "flat" and math.prod(stored.shape) == source.elements:
        stored = replace(stored, shape=expected)
    _check(source, stored, expected)
    array = np.frombuffer(stored.data, dtype=form).reshape(expected)
    return stored.dtype, array.T if is_turned else array


def _check(source: TensorSource, stored: StoredTensor, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise CheckpointError(
            f"tensor {source.names[0]!r} has shape {list(stored.shape)}, the model needs "
            f"{list(expected)}; config.json and the weights do not belong together"
        )
    needed_bytes = source.elements * DTYPE_BYTES[stored.dtype]
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
