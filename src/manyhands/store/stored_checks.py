"""Compares what a file holds of a tensor with what the model's config asks for: shape and dtype.

Reads no bytes of it.
"""

from __future__ import annotations

import math

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.weight_format import dtype_of
from manyhands.errors import CheckpointError, NotServed
from manyhands.store.safetensors_header import Place

_SERVED_LAYOUTS = ("plain", "flat", "tied", "transpose", "rows", "columns")


def check_shape(source: TensorSource, name: str, place: Place) -> None:
    """Raise CheckpointError when a tensor has another shape, NotServed for one of many parts."""
    if source.layout not in _SERVED_LAYOUTS:
        raise NotServed(f"tensor {name!r}: layout {source.layout} is read part by part")
    is_flat = source.layout == "flat"
    good = (
        math.prod(place.shape) == source.elements if is_flat else place.shape == source.stored_shape
    )
    if not good:
        raise CheckpointError(
            f"{place.file}: tensor {name!r} has shape {list(place.shape)}, config.json asks for "
            f"{list(source.stored_shape)} ({source.layout}); they do not belong together"
        )


def check_dtype(source: TensorSource, part: TensorSource, place: Place) -> None:
    """Raise CheckpointError when a part of `source` is kept in another dtype than is due."""
    due = dtype_of(source, part)
    if due is not None and place.dtype != due:
        raise CheckpointError(
            f"{place.file}: tensor {part.names[0]!r} is {place.dtype}, config.json asks for {due} "
            f"({source.layout}); they do not belong together: convert the model again"
        )
