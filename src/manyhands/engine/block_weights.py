"""Takes matrices stored in blocks of integers out of a checkpoint, ready to multiply or look up.

For both engines: rows come and go as float32 numpy. Knows nothing of layers or torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.panels import Panels, stacked, taken_apart
from manyhands.codec.weight_blocks import Bits, dequantise
from manyhands.domain.model_spec import TensorSource
from manyhands.domain.weight_format import blocks_of, codes_and_scales, dtype_of, thin_matrices
from manyhands.engine.block_linear import (
    CompiledProduct,
    Map,
    Product,
    ReferenceProduct,
    ThinProduct,
)
from manyhands.engine.engine import Weights
from manyhands.errors import CheckpointError

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

Float32 = NDArray[np.float32]

_BITS: dict[str, Bits] = {"int8": 8, "int4": 4}


class BlockLinear:
    """Matrices under each other, each in blocks of its own kind, and their biases."""

    def __init__(self, products: Sequence[Map], bias: Float32 | None) -> None:
        self._products, self._bias = products, bias
        held = sum(product.bytes_held for product in products)
        self.bytes_held = held + (0 if bias is None else bias.nbytes)

    @property
    def compiled(self) -> CompiledProduct | None:
        """The one product it consists of, where there are no others and it is compiled."""
        only = self._products[0]
        is_only = len(self._products) == 1 and isinstance(only, CompiledProduct) and only.is_whole
        return only if is_only and isinstance(only, CompiledProduct) else None

    @property
    def bias(self) -> Float32 | None:
        """What is added to every row."""
        return self._bias

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""
        outs = [product(rows) for product in self._products]
        out = outs[0] if len(outs) == 1 else np.concatenate(outs, axis=1)
        if self._bias is not None:
            out += self._bias
        return out


def read_linear(
    matrices: Sequence[TensorSource],
    weights: Weights,
    crew: Crew | None,
    bias: Float32 | None,
) -> BlockLinear:
    """Matrices [out_i, in] under each other; neighbours of one kind become one product."""
    products: list[Map] = []
    for layout, group in groupby(matrices, lambda source: source.layout):
        if layout == "low_rank":
            products += [_read_thin(source, weights, crew) for source in group]
        else:
            panels = [read_panels(source, weights) for source in group]
            products.append(product_of(stacked(panels), crew))
    return BlockLinear(products, bias)


def _read_thin(source: TensorSource, weights: Weights, crew: Crew | None) -> Map:
    left, right = (read_panels(thin, weights) for thin in thin_matrices(source))
    return ThinProduct(product_of(left, crew), product_of(right, crew))


def product_of(panels: Panels, crew: Crew | None) -> Product:
    """The matrix ready to multiply: compiled where there is a crew, else by numpy."""
    return ReferenceProduct(panels) if crew is None else CompiledProduct(panels, crew)


def read_panels(source: TensorSource, weights: Weights) -> Panels:
    """A matrix's codes and scales, not copied where `weights` shows them in place.

    Raises CheckpointError when they are not what the table says.
    """
    codes_part, scales_part = codes_and_scales(source)
    codes = _read(codes_part, dtype_of(source, codes_part), weights)
    scales = _read(scales_part, dtype_of(source, scales_part), weights).view(np.uint16)
    rows, width = source.shape
    count = codes_part.shape[-2]
    bits = _BITS[blocks_of(source) or "int8"]
    return Panels(bits, rows, width, codes.reshape(count, -1), scales.reshape(count, -1))


def read_plain(source: TensorSource, weights: Weights) -> Float32:
    """What a matrix in blocks stands for, as float32."""
    if source.layout != "low_rank":
        return dequantise(taken_apart(read_panels(source, weights)))
    left, right = (
        dequantise(taken_apart(read_panels(thin, weights))) for thin in thin_matrices(source)
    )
    return left @ right


def _read(part: TensorSource, dtype: str | None, weights: Weights) -> NDArray[np.uint8]:
    stored = weights(part)
    if stored.dtype != dtype or stored.shape != part.shape:
        raise CheckpointError(
            f"tensor {part.names[0]!r} is {stored.dtype} {list(stored.shape)}, config.json asks "
            f"for {dtype} {list(part.shape)}; they do not belong together: convert the model again"
        )
    return np.frombuffer(stored.data, np.uint8)
