"""Whole tensors as one row of numbers that says by itself what it holds, and back.

For modules whose tensors are not a row a token. In front of the numbers: how many tensors, and of
each its dtype and sides. What comes back is checked, since it comes from another peer. Knows
nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from manyhands.engine.engine import Hidden
from manyhands.errors import NotServed, ProtocolError

DTYPES = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.bool,
    torch.uint8,
)
"""In this order on the wire. Float32 holds every number of these, of whole ones those below."""

MOST_EXACT = 2**24
MOST_TENSORS, MOST_SIDES = 64, 8
MOST_SPANNED = 2**48
"""Product of a tensor's sides, those of 0 left out: torch cannot count far beyond."""


def to_row(tensors: Sequence[Tensor]) -> Hidden:
    """One row [1, N]. Raises NotServed for numbers that float32 does not hold."""
    if len(tensors) > MOST_TENSORS:
        raise NotServed(f"{len(tensors)} tensors go from stage to stage; at most {MOST_TENSORS} do")
    head: list[float] = [len(tensors)]
    for tensor in tensors:
        _check(tensor)
        head += [DTYPES.index(tensor.dtype), tensor.dim(), *tensor.shape]
    parts = [torch.tensor(head), *(tensor.detach().reshape(-1).float() for tensor in tensors)]
    return torch.cat(parts)[None].numpy()


def _check(tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES or tensor.dim() > MOST_SIDES:
        raise NotServed(
            f"a tensor of {tensor.dtype} with {tensor.dim()} sides cannot be sent; served are "
            f"{', '.join(str(dtype).removeprefix('torch.') for dtype in DTYPES)}, up to "
            f"{MOST_SIDES} sides"
        )
    is_whole = not tensor.is_floating_point() and tensor.dtype != torch.bool
    if max(tensor.shape, default=0) > MOST_EXACT or (
        is_whole and tensor.numel() and int(tensor.abs().max()) > MOST_EXACT
    ):
        raise NotServed(f"whole numbers above {MOST_EXACT} cannot be sent exactly")


def from_row(row: Hidden) -> list[Tensor]:
    """The tensors of a row. Raises ProtocolError for a row that is none."""
    numbers = torch.tensor(row).reshape(-1)
    at = 0

    def whole(most: int) -> int:
        nonlocal at
        value = float(numbers[at]) if at < len(numbers) else -1.0
        at += 1
        if not 0 <= value <= most or value != int(value):
            raise ProtocolError(f"a row of tensors says {value} where a number up to {most} stands")
        return int(value)

    forms = []
    for _ in range(whole(MOST_TENSORS)):
        dtype = DTYPES[whole(len(DTYPES) - 1)]
        forms.append((dtype, [whole(MOST_EXACT) for _ in range(whole(MOST_SIDES))]))
    tensors = []
    for dtype, sides in forms:
        size = prod(sides)
        if prod(side or 1 for side in sides) > MOST_SPANNED:
            raise ProtocolError(f"a row of tensors says sides {sides}, which no tensor has")
        if at + size > len(numbers):
            raise ProtocolError(f"a row of tensors is cut short: {len(numbers)} numbers in all")
        # memory of its own: kernels round by how it is aligned
        tensors.append(numbers[at : at + size].to(dtype, copy=True).reshape(sides))
        at += size
    if at != len(numbers):
        raise ProtocolError(f"a row of tensors has {len(numbers) - at} numbers too many")
    return tensors
