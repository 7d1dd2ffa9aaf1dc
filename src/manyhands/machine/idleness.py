"""How long nobody has used this machine: which of several sources tells, and what it says.

A source gives seconds since the last input, or None where it cannot tell. Which one serves is
looked for once: the desktop's own where there is one, else what the system counts.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manyhands.errors import BadSetting
from manyhands.machine.local_input import LocalInput

READ_WITHIN_S = 0.8
"""A command that takes longer tells nothing."""

GNOME = (
    "gdbus", "call", "--session", "--dest", "org.gnome.Mutter.IdleMonitor",
    "--object-path", "/org/gnome/Mutter/IdleMonitor/Core",
    "--method", "org.gnome.Mutter.IdleMonitor.GetIdletime",
)  # fmt: skip
X11 = ("xprintidle",)
MACOS = ("ioreg", "-c", "IOHIDSystem", "-d", "4", "-r", "-k", "HIDIdleTime")

_MILLISECONDS = re.compile(r"(?:\(uint64 )?([0-9]{1,18})(?:,\))?", re.ASCII)
_NANOSECONDS = re.compile(r'"HIDIdleTime" = ([0-9]{1,19})', re.ASCII)

_TICKS = 0xFFFFFFFF
"""Windows counts milliseconds in 32 bits: they begin anew after 49 days."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where it is read, in words, and the reading: blocks for READ_WITHIN_S at most."""

    name: str
    idle_s: Callable[[], float | None]


def find_source(asked: str | None = None) -> Source:
    """What was `asked` for, else the first that can tell now.

    `file:PATH` is a file that is touched at every input, `command:WORDS` prints the milliseconds
    since the last one. Raises BadSetting where nothing can tell.
    """
    candidates = (_asked(asked),) if asked is not None else _of_this_system()
    for source in candidates:
        if source.idle_s() is not None:
            return source
    tried = ", ".join(source.name for source in candidates) or f"nothing on {sys.platform}"
    raise BadSetting(
        f"how long nobody has used this machine cannot be read here (tried: {tried}); leave out "
        "--when idle, or name with --idle-from a file that is touched at every input (file:PATH) "
        "or a command that prints the milliseconds since (command:xprintidle)"
    )


def _asked(text: str) -> Source:
    kind, _, rest = text.partition(":")
    if kind == "file" and rest:
        return Source(f"the time of {rest}", lambda: _file_idle_s(Path(rest)))
    try:
        words = shlex.split(rest)
    except ValueError:
        words = []
    if kind != "command" or not words:
        raise BadSetting(f"{text[:200]!r} tells nothing of input; write file:PATH or command:WORDS")
    return Source(f"the command {words[0]}", lambda: milliseconds_s(_printed(words)))


def _of_this_system() -> tuple[Source, ...]:
    if sys.platform == "win32":
        return (Source("the last input of Windows", _windows_idle_s),)
    if sys.platform == "darwin":
        return (Source("ioreg", lambda: nanoseconds_s(_printed(MACOS))),)
    found = []
    if "DBUS_SESSION_BUS_ADDRESS" in os.environ and shutil.which(GNOME[0]):
        found.append(Source("GNOME", lambda: milliseconds_s(_printed(GNOME))))
    if "DISPLAY" in os.environ and shutil.which(X11[0]):
        found.append(Source(X11[0], lambda: milliseconds_s(_printed(X11))))
    local = LocalInput()
    found.append(Source("terminals, keyboards and mice", local.idle_s))
    return tuple(found)


def milliseconds_s(printed: str | None) -> float | None:
    """Seconds of a plain number of milliseconds, or of gdbus' `(uint64 1234,)`."""
    found = _MILLISECONDS.fullmatch(printed.strip()) if printed is not None else None
    return int(found[1]) / 1e3 if found else None


def nanoseconds_s(printed: str | None) -> float | None:
    """Seconds of what macOS' ioreg prints of its input devices."""
    found = _NANOSECONDS.search(printed) if printed is not None else None
    return int(found[1]) / 1e9 if found else None


def _file_idle_s(path: Path) -> float | None:
    try:
        return max(0.0, datetime.now(UTC).timestamp() - path.stat().st_mtime)
    except OSError:
        return None


def _printed(words: Sequence[str]) -> str | None:
    """What a command prints; None where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 (the user's own words, or the table above)
            words, capture_output=True, text=True, timeout=READ_WITHIN_S, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout


def _windows_idle_s() -> float | None:
    import ctypes

    class LastInput(ctypes.Structure):
        _fields_ = (("size", ctypes.c_uint), ("tick", ctypes.c_uint))

    found = LastInput(ctypes.sizeof(LastInput), 0)
    system: Any = getattr(ctypes, "windll", None)
    if system is None or not system.user32.GetLastInputInfo(ctypes.byref(found)):
        return None
    ticks = int(system.kernel32.GetTickCount()) & _TICKS
    return float((ticks - found.tick) & _TICKS) / 1e3
