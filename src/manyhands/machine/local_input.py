"""When was this Linux machine last used? By its terminals' times, as `w` tells, and by how often
keyboards and mice have interrupted. For machines without a desktop that says so itself.

A USB port's interrupts are those of all that is plugged in there: another device that is always
busy looks like somebody at work, never the other way round.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

_TERMINALS = ("tty[0-9]*", "pts/[0-9]*")
_INPUT = re.compile(r"i8042|[xeou]hci|\bdwc|i2c|hid|touch|elan|syna|keyboard|mouse", re.IGNORECASE)
_LINE = re.compile(r"\s*(\w+):((?:\s+[0-9]+)+)\s+(.*)", re.ASCII)


class LocalInput:
    """Ask it again and again: that something has interrupted is seen from one time to the next."""

    def __init__(
        self, devices: Path = Path("/dev"), interrupts: Path = Path("/proc/interrupts")
    ) -> None:
        self._devices, self._interrupts = devices, interrupts
        self._counts: dict[str, int] = {}
        self._moved_s: float | None = None

    def idle_s(self) -> float | None:
        """Seconds since the last input; None where neither kind can be read."""
        try:
            counts = input_counts(self._interrupts.read_text(encoding="ascii", errors="replace"))
        except OSError:
            return None  # somebody may sit at a screen, and no terminal tells
        found = []
        if counts:
            if counts != self._counts or self._moved_s is None:
                self._counts, self._moved_s = counts, time.monotonic()
            found.append(time.monotonic() - self._moved_s)
        used_s = self._terminal_used_s()
        if used_s is not None:
            found.append(max(0.0, datetime.now(UTC).timestamp() - used_s))
        return min(found, default=None)

    def _terminal_used_s(self) -> float | None:
        """When something was last typed at any terminal (unix seconds)."""
        latest = None
        for pattern in _TERMINALS:
            for path in self._devices.glob(pattern):
                try:
                    latest = max(latest or 0.0, path.stat().st_atime)
                except OSError:  # closed meanwhile
                    continue
        return latest


def input_counts(interrupts: str) -> dict[str, int]:
    """Interrupts so far of each line that input devices may share, of /proc/interrupts."""
    lines = (_LINE.fullmatch(line) for line in interrupts.splitlines())
    return {
        found[1]: sum(map(int, found[2].split()))
        for found in lines
        if found is not None and _INPUT.search(found[3])
    }
