"""What a run of `bench.py` measured, as plain data: a figure has one value a round."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """`case` is a number that tells figures of a part apart: tokens, sessions or threads.

    `unit` is s (seconds of one token, step or prompt), bytes, bytes/s or µs.
    """

    part: str
    form: str
    threads: int
    case: int
    side: str
    unit: str
    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Report:
    """All of a run."""

    date: str
    machine: str
    notes: tuple[str, ...]
    figures: tuple[Figure, ...]

    def of(self, part: str) -> dict[tuple[str, int, int], dict[str, Figure]]:
        """A part's figures, by (form, threads, case) and then by side."""
        found: dict[tuple[str, int, int], dict[str, Figure]] = {}
        for one in self.figures:
            if one.part == part:
                found.setdefault((one.form, one.threads, one.case), {})[one.side] = one
        return found


def write(report: Report, file: Path) -> None:
    """As JSON."""
    file.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read(file: Path) -> Report:
    """What `write` wrote."""
    told = json.loads(file.read_text("utf-8"))
    figures = tuple(Figure(**{**one, "values": tuple(one["values"])}) for one in told["figures"])
    return Report(told["date"], told["machine"], tuple(told["notes"]), figures)


def ratios(over: Iterable[float], under: Iterable[float]) -> list[float]:
    """One value by another, round by round."""
    return [one / other for one, other in zip(over, under, strict=True)]
