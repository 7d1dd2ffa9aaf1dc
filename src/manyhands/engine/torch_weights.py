"""Takes stored tensors into torch: in the engine's dtype, fused, each converted piece by piece.

Same bits are copied straight into their place, others go through a few MB of float32. Knows nothing
of what the tensors mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.weight_format import blocks_of
from manyhands.engine.block_weights import BlockLinear
from manyhands.engine.engine import Weights
from manyhands.engine.integers import BlockTable, Integers
from manyhands.engine.row_linear import RowLinear
from manyhands.engine.torch_linear import Linear, PlainLinear, is_packed, make_linear
from manyhands.engine.weights import raw_rows, read_float32, widen

PIECE_ELEMENTS = 2**20
"""Numbers converted at one time when the stored dtype is another than the engine's."""

_SAME_BITS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class TorchReader:
    """See layer_weights.Reader. `bytes_held` counts what was taken in; shared ones once."""

    def __init__(self, weights: Weights, dtype: torch.dtype, whole: Integers | None = None) -> None:
        self._weights = weights
        self._dtype = dtype
        self._integers = whole
        self.bytes_held = 0
        self._staging = self._new(0)

    def vector(self, source: TensorSource) -> Tensor:
        """A norm's weight, a bias or sinks."""
        return self._counted(self._fill(self._new(*source.shape), [source]))

    def table(self, source: TensorSource) -> Tensor:
        """Rows to be looked up by id."""
        if self._integers is not None and blocks_of(source) is not None:
            table = TorchTable(self._integers.table(source, self._weights))
            self.bytes_held += table.blocks.product.bytes_held
            return cast("Tensor", table)  # looked up like a tensor, and that is all
        return self._counted(self._fill(self._new(*source.shape), [source]))

    def by_head(self, source: TensorSource, heads: int, cut: int) -> tuple[Tensor, Tensor]:
        """Each head's first `cut` rows and each head's others, apart."""
        whole = self.table(source).view(heads, -1, source.shape[1])
        return whole[:, :cut].contiguous(), whole[:, cut:].contiguous()

    def wide(self, source: TensorSource) -> Tensor:
        """What stays float32."""
        return self._counted(torch.from_numpy(read_float32(source, self._weights).copy()))

    def wide_linear(self, matrix: TensorSource, bias: TensorSource | None) -> Linear:
        """The same of a linear map; beside integers each row is multiplied by itself."""
        weight, held = self.wide(matrix), None if bias is None else self.wide(bias)
        if self._integers is None:
            return PlainLinear(weight, held)
        return TorchBlocks(RowLinear(weight.numpy(), None if held is None else held.numpy()))

    def linear(
        self, matrices: Sequence[TensorSource], biases: Sequence[TensorSource | None]
    ) -> Linear:
        """Matrices under each other, laid out for the fastest kernel."""
        bias = None
        if any(source is not None for source in biases):
            bias = torch.zeros(sum(matrix.shape[0] for matrix in matrices), dtype=self._dtype)
            first = 0
            for matrix, source in zip(matrices, biases, strict=True):
                last = first + matrix.shape[0]
                if source is not None:
                    self._read_into(bias[first:last], source)
                first = last
        if self._integers is not None and blocks_of(matrices[0]) is not None:
            held = None if bias is None else bias.numpy()
            return self._made(TorchBlocks(self._integers.linear(matrices, self._weights, held)))
        rows, into = sum(matrix.shape[0] for matrix in matrices), matrices[0].shape[1]
        is_copied = is_packed(self._dtype)
        weight = self._staged(rows, into) if is_copied else self._new(rows, into)
        self._fill(weight, matrices)
        return self._made(make_linear(weight, bias))

    def _made(self, linear: Linear) -> Linear:
        self.bytes_held += linear.bytes_held
        return linear

    def linear_of(self, table: Any, bias: TensorSource | None) -> Linear:
        """A linear map that shares a table's memory."""
        held = None if bias is None else self.vector(bias)
        if isinstance(table, TorchTable):
            numbers = None if held is None else held.numpy()
            return TorchBlocks(BlockLinear([table.blocks.product], numbers))
        return PlainLinear(table, held)

    def _counted(self, tensor: Tensor) -> Tensor:
        self.bytes_held += tensor.numel() * tensor.element_size()
        return tensor

    def _new(self, *shape: int) -> Tensor:
        return torch.empty(*shape, dtype=self._dtype)

    def _staged(self, rows: int, into: int) -> Tensor:
        """Memory for a matrix that is about to be packed, used again for the next one.

        Fresh memory each time left holes in the heap: a fifth more than the span's bytes.
        """
        if self._staging.numel() < rows * into:
            self._staging = self._new(rows * into)
        return self._staging[: rows * into].view(rows, into)

    def _fill(self, target: Tensor, sources: Sequence[TensorSource]) -> Tensor:
        """Read the sources into `target`, one under the other."""
        first = 0
        for source in sources:
            self._read_into(target[first : first + source.shape[0]], source)
            first += source.shape[0]
        return target

    def _read_into(self, target: Tensor, source: TensorSource) -> None:
        dtype, raw = raw_rows(source, self._weights)
        if self._dtype == torch.float32:
            widen(target.numpy(), dtype, raw)
        elif _SAME_BITS[dtype] == self._dtype:
            # numpy has no bfloat16, and torch warns of read-only memory: both sides as integers.
            target.view(torch.int16).numpy()[...] = raw.view(np.int16)
        else:
            _convert(target, dtype, raw)


class TorchBlocks:
    """A linear map of a model in integers, rows as tensors that share memory with numpy's."""

    def __init__(self, linear: BlockLinear | RowLinear) -> None:
        self._linear = linear
        self.bytes_held = linear.bytes_held
        self._product = linear.compiled if isinstance(linear, BlockLinear) else None
        held = linear.bias if isinstance(linear, BlockLinear) else None
        self._bias = None if held is None else torch.from_numpy(held)

    def __call__(self, rows: Tensor) -> Tensor:
        """[N, in] -> [N, out]."""
        if self._product is None:
            return torch.from_numpy(self._linear(rows.numpy()))
        given, count = rows.contiguous(), rows.shape[0]
        out = torch.empty(count, self._product.outs)
        self._product.write(given.data_ptr(), count, out.data_ptr())
        return out if self._bias is None else out.add_(self._bias)


class TorchTable:
    """A table in blocks of integers, its rows as tensors."""

    def __init__(self, blocks: BlockTable) -> None:
        self.blocks = blocks

    def __getitem__(self, places: Tensor) -> Tensor:
        """Rows [N, D] at places [N]."""
        return torch.from_numpy(self.blocks[places.numpy()])


def _convert(target: Tensor, dtype: str, raw: NDArray[np.generic]) -> None:
    step = max(1, PIECE_ELEMENTS // max(1, raw[0].size))
    for first in range(0, raw.shape[0], step):
        piece = raw[first : first + step]
        wide = np.empty(piece.shape, np.float32)
        widen(wide, dtype, piece)
        target[first : first + step].copy_(torch.from_numpy(wide))
