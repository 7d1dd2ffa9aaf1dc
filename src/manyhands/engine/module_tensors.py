"""Tensors inside a module's arguments: found by path, taken out, put back; packed to rows.

A path is an argument's number or name and the way inside it: `0`, `hidden_states`,
`position_embeddings.1`. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What a module is called with: positional and named."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A tensor that goes from stage to stage: where it stands, which side counts tokens.

    `shape` are its other sides. The batch is 1, so a row is everything that belongs to one token.
    """

    path: str
    tokens_side: int
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers a token."""
        count = 1
        for side in self.shape:
            count *= side
        return count


def tensors_of(arguments: Arguments) -> dict[str, Tensor]:
    """Every tensor in the arguments by its path, in order."""
    args, kwargs = arguments
    named = [*((str(place), value) for place, value in enumerate(args)), *kwargs.items()]
    return {path: tensor for name, value in named for path, tensor in _inside(name, value)}


def _inside(path: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _inside(f"{path}.{key}", inner)
    elif isinstance(value, (tuple, list)):
        for place, inner in enumerate(value):
            yield from _inside(f"{path}.{place}", inner)


def replaced(arguments: Arguments, tensors: Mapping[str, Tensor]) -> Arguments:
    """The arguments with other tensors at some paths; paths that are not there are left out."""
    args, kwargs = arguments
    return (
        tuple(_replaced(str(place), value, tensors) for place, value in enumerate(args)),
        {name: _replaced(name, value, tensors) for name, value in kwargs.items()},
    )


def _replaced(path: str, value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return tensors.get(path, value)
    if not any(other == path or other.startswith(f"{path}.") for other in tensors):
        return value
    if isinstance(value, Mapping):
        inner = {key: _replaced(f"{path}.{key}", one, tensors) for key, one in value.items()}
        return type(value)(inner)  # type: ignore[call-arg]  # dicts of any make
    if isinstance(value, (tuple, list)):
        return type(value)(
            _replaced(f"{path}.{place}", one, tensors) for place, one in enumerate(value)
        )
    return value


def width_of(carried: Sequence[Carried]) -> int:
    """Numbers a token between two stages."""
    return sum(one.width for one in carried)


def pack(tensors: Mapping[str, Tensor], carried: Sequence[Carried]) -> Tensor:
    """The carried tensors side by side, [T tokens, width of all]; zeros for one that is not there.

    The first is there always.
    """
    first = tensors[carried[0].path].movedim(carried[0].tokens_side, 0)
    rows = [first.reshape(len(first), -1)]
    for one in carried[1:]:
        tensor = tensors.get(one.path)
        if tensor is None:
            rows.append(rows[0].new_zeros(len(first), one.width))
        else:
            rows.append(tensor.movedim(one.tokens_side, 0).reshape(-1, one.width))
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def unpack(rows: Tensor, carried: Sequence[Carried]) -> dict[str, Tensor]:
    """What `pack` made rows of."""
    parts = torch.split(rows, [one.width for one in carried], dim=1)
    return {
        one.path: part.reshape(-1, *one.shape).movedim(0, one.tokens_side)
        for one, part in zip(carried, parts, strict=True)
    }
