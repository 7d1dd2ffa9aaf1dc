"""The clocks that benchmarks choose from."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts this process's own seconds, for a machine that others use as well."""


def add_clock(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")


def clock_of(parser: argparse.ArgumentParser, name: str, threads: Sequence[int]) -> Clock:
    """The clock of that name, or an end with a message where it would tell nothing."""
    if name == "cpu" and any(count != 1 for count in threads):
        parser.error("--clock cpu adds up the seconds of all threads: use it with --threads 1")
    return CLOCKS[name]
