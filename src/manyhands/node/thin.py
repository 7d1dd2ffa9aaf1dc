"""Finds the matrices that two thin ones replace: at less bytes, within an error that is measured.

The model runs over texts, one layer in memory at a time. Half of them say which directions of a
matrix's input matter (`codec/low_rank`), the other half measure what its output then loses, with
both thin matrices in int8. Joins `store`, `engine` and `codec`; knows nothing of files to write.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyhands.codec.low_rank import LowRank, decompose, moments, output_error
from manyhands.codec.weight_blocks import WeightBlocks, dequantise, quantise
from manyhands.domain.model_spec import TensorSource
from manyhands.domain.span import Span
from manyhands.domain.weight_format import (
    IntegerFormat,
    bytes_of_blocks,
    converted,
    may_be_thin,
)
from manyhands.engine import numpy_blocks
from manyhands.engine.engine import Hidden
from manyhands.engine.weights import read_float32
from manyhands.errors import UserError
from manyhands.store.checkpoint import Checkpoint

PIECE_TOKENS = 256
"""So many tokens of a text are run as one."""

Told = Callable[[int], None]


@dataclass(slots=True)
class _Rows:
    """Second moments [in, in] and mean [in] of what a matrix is multiplied with, added up."""

    squares: NDArray[np.float64] | float = 0.0
    mean: NDArray[np.float64] | float = 0.0
    pieces: int = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        self.squares = self.squares + moments(rows)
        self.mean = self.mean + rows.mean(0, dtype=np.float64)
        self.pieces += 1

    @property
    def moments(self) -> NDArray[np.float64]:
        return np.asarray(self.squares / self.pieces)

    @property
    def around_mean(self) -> NDArray[np.float64]:
        mean = np.asarray(self.mean / self.pieces)
        return self.moments - np.outer(mean, mean)


_Seen = dict[TensorSource, _Rows]


@dataclass(frozen=True, slots=True)
class Thin:
    """left [out, rank] times right [rank, in], both in int8, and what its output loses."""

    left: WeightBlocks
    right: WeightBlocks
    error: float

    @property
    def rank(self) -> int:
        """Columns of the left one."""
        return self.left.width


def thin_matrices_of(
    source: Checkpoint, form: IntegerFormat, budget: float, tokens: Sequence[int], told: Told
) -> dict[str, Thin]:
    """By our names, as `3.q`, the matrices whose output two thin ones change by at most `budget`.

    `budget` is the root of the mean square of the change over the deviation of the output: what
    all tokens have in common says nothing, and may be most of it. Only those that take fewer
    bytes than in `form`. `told` is called with the bytes read of each layer. Raises
    UserError for too short a text.
    """
    size = min(PIECE_TOKENS, source.spec.context)
    pieces = [tokens[first : first + size] for first in range(0, len(tokens) - size + 1, size)]
    if len(pieces) < 2:
        raise UserError(
            f"the calibration text has {len(tokens)} tokens; give one of {2 * size} at the very "
            "least, and rather ten times the model's width"
        )
    found: dict[str, Thin] = {}
    hidden: list[Hidden | None] = [None] * len(pieces)
    stored = converted(source.spec, form)
    for place in range(len(source.spec.layers) - 1):
        before = source.bytes_read
        tensors = {
            tensor: name
            for name, tensor in source.spec.layers[place].tensors.items()
            if may_be_thin(name, tensor)
        }
        (seen, unseen), hidden = _run(source, place, tensors, pieces, hidden)
        told(source.bytes_read - before)
        for tensor, name in tensors.items():
            most = bytes_of_blocks(stored.layers[place].tensors[name])
            matrix = read_float32(tensor, source.read)
            thin = _thin(matrix, most, budget, seen[tensor], unseen[tensor])
            if thin is not None:
                found[f"{place}.{name}"] = thin
    return found


def ranks_of(thin: Mapping[str, Thin]) -> dict[str, int]:
    """What config.json says of them."""
    return {name: one.rank for name, one in thin.items()}


def _run(
    source: Checkpoint,
    place: int,
    wanted: Container[TensorSource],
    pieces: Sequence[Sequence[int]],
    hidden: Sequence[Hidden | None],
) -> tuple[tuple[_Seen, _Seen], list[Hidden | None]]:
    """What the wanted matrices of a layer are multiplied with, by halves; what comes out of it."""
    halves: tuple[_Seen, _Seen] = {}, {}
    half = halves[0]

    def watch(matrices: Sequence[TensorSource], rows: NDArray[np.float32]) -> None:
        theirs = [matrix for matrix in matrices if matrix in wanted]
        if theirs:  # of one product all have the same rows
            shared = half.setdefault(theirs[0], _Rows())
            shared.add(rows)
            half.update(dict.fromkeys(theirs, shared))

    engine = numpy_blocks.load(
        source.spec, Span(place, place + 1), source.read, kv_bytes=1, watch=watch
    )
    given: list[Hidden | None] = []
    for number, (piece, rows) in enumerate(zip(pieces, hidden, strict=True)):
        half = halves[number % 2]
        given.append(engine.forward(piece, rows).hidden)
    return halves, given


def _thin(
    matrix: NDArray[np.float32],
    most_bytes: int,
    budget: float,
    seen: _Rows,
    unseen: _Rows,
) -> Thin | None:
    """The least rank whose error is within the budget, if it takes less than `most_bytes`."""
    most = _most_rank(matrix.shape, most_bytes)
    if not most or not np.isfinite(matrix).all() or not matrix.any():
        return None
    widest = decompose(matrix, most, seen.moments)

    def of_rank(rank: int) -> Thin:
        cut = LowRank(widest.left[:, :rank], widest.right[:rank])
        left, right = quantise(cut.left, 8), quantise(cut.right, 8)
        thin = dequantise(left) @ dequantise(right)
        return Thin(left, right, output_error(matrix, thin, unseen.moments, unseen.around_mean))

    best = of_rank(most)
    if not best.error <= budget:
        return None
    low = 1
    while low < best.rank:  # the error falls with the rank
        middle = of_rank((low + best.rank) // 2)
        if middle.error <= budget:
            best = middle
        else:
            low = middle.rank + 1
    return best


def _most_rank(shape: tuple[int, ...], most_bytes: int) -> int:
    """The largest rank that takes fewer bytes, 0 where none does."""
    names = ("left", "left.scales", "right", "right.scales")
    thin = TensorSource(names, shape, "low_rank")
    rank = min(*shape, most_bytes // sum(shape))
    while rank and bytes_of_blocks(replace(thin, of=rank)) >= most_bytes:
        rank -= 1
    return rank
