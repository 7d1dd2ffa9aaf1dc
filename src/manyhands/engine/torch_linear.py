"""Linear maps in torch, rows [N, in] -> [N, out], with the kernel that suits dtype and row count.

bfloat16 and float16 matrices are laid out once for oneDNN (about 1.35x of `F.linear` at one row).
That is a private operator of torch: it is tried at load, and `F.linear` stands in where it fails.
Knows nothing of where matrices come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

FEW_ROWS = range(4, 49)
"""Row counts at which MKL's float32 product is up to 1.5x faster the other way round: 8192 x 1024,
one thread, 8 rows 6,565 µs against 4,421, 32 rows 7,478 against 5,657; but not 2 rows (2,358)."""

_PACKED_FOR_ROWS = 16
"""What oneDNN is told to lay out for: as fast as the one-row layout at one row, 1.35x at 128."""


class Linear(Protocol):
    """A matrix and perhaps a bias, ready to multiply."""

    @property
    def bytes_held(self) -> int:
        """Bytes it takes in memory."""

    def __call__(self, rows: Tensor) -> Tensor:
        """[N, in] -> [N, out]."""


class PlainLinear:
    """A matrix as torch lays it out: float32, or one that is shared with an embedding."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias
        self.bytes_held = _bytes(weight) + (0 if bias is None else _bytes(bias))
        self._turns_few = weight.dtype == torch.float32
        self._by_vector = weight.dtype != torch.float32 and _vector_product_is_faster(weight)

    def __call__(self, rows: Tensor) -> Tensor:
        """[N, in] -> [N, out]."""
        count = rows.shape[0]
        if count == 1 and self._by_vector:
            product = torch.mv(self._weight, rows[0])[None]
        elif self._turns_few and count in FEW_ROWS:
            product = torch.mm(self._weight, rows.T).T.contiguous()
        else:
            return functional.linear(rows, self._weight, self._bias)
        return product if self._bias is None else product.add_(self._bias)


class PackedLinear:
    """A matrix in oneDNN's own layout; only `packing_works` dtypes."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = _pack(weight), bias
        self.bytes_held = _bytes(weight) + (0 if bias is None else _bytes(bias))

    def __call__(self, rows: Tensor) -> Tensor:
        """[N, in] -> [N, out]."""
        return _packed_product(rows, self._weight, self._bias)


def is_packed(dtype: torch.dtype) -> bool:
    """True when `make_linear` copies a matrix into a layout of its own, and keeps nothing of it."""
    return dtype != torch.float32 and packing_works(dtype)


def make_linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """The fastest form of a matrix [out, in] that is nobody else's: it may be laid out anew."""
    if is_packed(weight.dtype):
        return PackedLinear(weight, bias)
    return PlainLinear(weight, bias)


@cache
def packing_works(dtype: torch.dtype) -> bool:
    """Try the private operators once: True when they are there and agree with `F.linear`."""
    weight = torch.linspace(-1, 1, 64 * 32).reshape(64, 32).to(dtype)
    rows = torch.linspace(1, -1, 3 * 32).reshape(3, 32).to(dtype)
    try:
        with torch.inference_mode():
            ours = _packed_product(rows, _pack(weight), weight[:, 0].contiguous())
    except (AttributeError, RuntimeError, TypeError):  # not in this build, or not on this machine
        return False
    theirs = functional.linear(rows.float(), weight.float(), weight[:, 0].float())
    return ours.shape == theirs.shape and bool((ours.float() - theirs).abs().max() < 0.2)


def low_precision_is_native(dtype: torch.dtype) -> bool:
    """True when this CPU multiplies bfloat16 (float16) itself; elsewhere float32 is faster.

    oneDNN says so by another private operator; where that is missing, the answer is no.
    """
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    try:
        return bool(getattr(torch.ops.mkldnn, name[dtype])())
    except (AttributeError, RuntimeError, KeyError):
        return False


# The operators are private: `packing_works` has tried them before anything here is called.
def _pack(weight: Tensor) -> Tensor:
    reorder = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001
    packed: Tensor = reorder(weight, _PACKED_FOR_ROWS)
    return packed


def _packed_product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
    product: Tensor = multiply(rows, weight, bias, "none", [], "")
    return product


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _vector_product_is_faster(weight: Tensor) -> bool:
    """Measured here and now: on some CPUs torch's bfloat16 vector product is 1.3x, on others no."""
    row = torch.ones(1, weight.shape[1], dtype=weight.dtype)
    with torch.inference_mode():
        by_vector = _quickest_s(lambda: torch.mv(weight, row[0]))
        by_matrix = _quickest_s(lambda: functional.linear(row, weight))
    return by_vector < by_matrix


def _quickest_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(4):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
