"""What one run of torch_blocks knows of its parts: made once, used by every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyhands.domain.model_spec import Rope
from manyhands.engine.blocks import Part
from manyhands.engine.integers import Integers
from manyhands.engine.torch_integers import in_vectors
from manyhands.engine.torch_math import Apply, mask_of, plainly, rotation

PART = 11
"""Figures of a part; `attend_kernels` has the same."""

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew


class Step:
    """The parts of one run, and what is made of them once."""

    def __init__(
        self,
        parts: Sequence[Part[Tensor]],
        dtype: torch.dtype,
        whole: Integers | None,
        crew: Crew | None,
    ) -> None:
        self.parts = parts
        self.integers = whole
        self.apply: Apply = plainly if whole is None else in_vectors
        self.crew = crew
        counts = [len(part.token_ids) for part in parts]
        self.cuts = list(np.cumsum([0, *counts]).tolist())
        self.ones = 0  # parts in front that are one token with a memory
        while (
            self.ones < len(parts)
            and counts[self.ones] == 1
            and parts[self.ones].blocks is not None
        ):
            self.ones += 1
        # of the parts in the table: the longest first, so that threads end together
        self.order = sorted(range(len(parts)), key=lambda number: -parts[number].end)
        self.dtype = dtype
        self._turns: dict[int, tuple[Tensor, Tensor]] = {}
        self._wide_turns: dict[int, Tensor] = {}
        self._table: NDArray[np.int64] | None = None
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return int(self.cuts[-1])

    def turn(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Cosines and sines of all rows. By identity: hashing a rope costs more than a norm."""
        found = self._turns.get(id(rope))
        if found is None:
            pairs = [
                rotation(
                    rope,
                    part.is_long,
                    torch.arange(part.position, part.end, dtype=torch.float32),
                    self.dtype,
                )
                for part in self.parts
            ]
            found = (
                pairs[0]
                if len(pairs) == 1
                else (torch.cat([cos for cos, _ in pairs]), torch.cat([sin for _, sin in pairs]))
            )
            self._turns[id(rope)] = found
        return found

    def wide_turn(self, rope: Rope) -> Tensor:
        """Cosines and sines of all rows in float32 [N, 2, pairs], for `keep_rows`."""
        found = self._wide_turns.get(id(rope))
        if found is None:
            pairs = [
                torch.cat(
                    rotation(
                        rope,
                        part.is_long,
                        torch.arange(part.position, part.end, dtype=torch.float32),
                        torch.float32,
                    ),
                    1,
                )
                for part in self.parts
            ]
            found = self._wide_turns[id(rope)] = torch.cat(pairs)
        return found

    def table(self, place: int) -> NDArray[np.int64]:
        """The parts as `open_attention` takes them [P, PART], at one of the blocks that are run.

        In their `order`. Where a part has no memory its places are left for the caller to fill in.
        """
        if self._table is None:
            places = [self.parts[number].places for number in self.order]
            blocks = max([1, *(len(each) for each in places if each is not None)])
            self._table = np.zeros((blocks, len(places), PART), np.int64)
            for row, (number, each) in enumerate(zip(self.order, places, strict=True)):
                first, last = self.cuts[number], self.cuts[number + 1]
                self._table[:, row, :3] = first, last - first, self.parts[number].position
                if each is not None:
                    self._table[:, row, 3:9] = each
        table: NDArray[np.int64] = self._table[place if len(self._table) > 1 else 0]
        return table

    def mask(self, index: int, window: int | None) -> Tensor | None:
        """The mask of one part, None where `attend` needs none."""
        part = self.parts[index]
        tokens = part.end - part.position
        is_cut = window is not None and part.end > window
        if tokens == 1 or (part.position == 0 and not is_cut):
            return None
        key = (index, window if is_cut else None)
        if key not in self._masks:
            self._masks[key] = mask_of(part.position, tokens, key[1], self.dtype)
        return self._masks[key]
