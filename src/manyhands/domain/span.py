"""Half-open ranges of layers, [first, last), and what can be said of several of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Layers first, first+1, … last-1. Never empty: raises ValueError otherwise."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last:
            raise ValueError(f"span [{self.first}, {self.last}) is empty or starts below 0")

    def __len__(self) -> int:
        return self.last - self.first

    def __contains__(self, layer: object) -> bool:
        return isinstance(layer, int) and self.first <= layer < self.last

    def __str__(self) -> str:
        return f"[{self.first}, {self.last})"

    def covers(self, other: Span) -> bool:
        """True when every layer of `other` is in this span."""
        return self.first <= other.first and other.last <= self.last

    def overlap(self, other: Span) -> Span | None:
        """The layers in both, or None."""
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Span(first, last) if first < last else None


def missing(spans: Iterable[Span], layers: int) -> tuple[Span, ...]:
    """The maximal spans of [0, layers) that none of `spans` holds."""
    gaps, reached = [], 0
    for span in sorted(spans):
        if span.first > reached:
            gaps.append(Span(reached, min(span.first, layers)))
        reached = max(reached, span.last)
        if reached >= layers:
            return tuple(gaps)
    return (*gaps, Span(reached, layers))


def is_cover(spans: Iterable[Span], layers: int) -> bool:
    """True when `spans`, in this order, touch end to end and make exactly [0, layers)."""
    reached = 0
    for span in spans:
        if span.first != reached:
            return False
        reached = span.last
    return reached == layers


def even_cuts(layers: int, parts: int) -> tuple[Span, ...]:
    """[0, layers) cut into `parts` spans whose lengths differ by one at most, longer ones first.

    Raises ValueError when there are fewer layers than parts.
    """
    if not 0 < parts <= layers:
        raise ValueError(f"{layers} layers cannot be cut into {parts} parts")
    short, longer = divmod(layers, parts)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + short + (part < longer))
    return tuple(Span(a, b) for a, b in pairwise(ends))
