"""Where `hands serve` and `hands run` run on this machine: a note each, alive while it is locked.

A note holds the key of the HTTP interface, so a dead process's is removed; its number may have been
given to somebody else's program since.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from manyhands.launch.leftovers import cleared
from manyhands.store.home import Home


@dataclass(frozen=True, slots=True)
class Note:
    """One that runs here."""

    url: str
    since: float
    key: str | None
    control: str | None = None
    """What the person who runs it shows to tell it things."""


@contextlib.contextmanager
def announced(
    home: Home, url: str, since: float, key: str | None, control: str | None = None
) -> Iterator[None]:
    """Let other commands of this person find us. Raises ResourceError."""
    running(home)
    pid = os.getpid()
    (home.folder / "running").mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        lock = _lock(home.folder / "running" / f"api-{pid}.lock")
        lock.acquire()  # first: a note that is not locked is a dead process's
        held.enter_context(cleared(lambda: _unlock(lock)))
        note = {"url": url, "pid": pid, "since": since, "key": key, "control": control}
        file = home.write_running(f"api-{pid}", note)
        held.enter_context(cleared(lambda: file.unlink(missing_ok=True)))
        yield


def running(home: Home) -> list[Note]:
    """What runs here; notes of processes that have ended are removed."""
    for file in (home.folder / "running").glob("*.json"):
        with contextlib.suppress(OSError, filelock.Timeout):
            lock = _lock(file.with_suffix(".lock"))
            with lock.acquire(blocking=False):
                file.unlink(missing_ok=True)
            Path(lock.lock_file).unlink(missing_ok=True)
    notes = [_read(value) for value in home.running()]
    return [note for note in notes if note is not None]


def _lock(file: Path) -> filelock.BaseFileLock:
    # not bound to a thread: whoever ends the process at once may be another one
    return filelock.FileLock(file, thread_local=False)


def _unlock(lock: filelock.BaseFileLock) -> None:
    lock.release(force=True)
    Path(lock.lock_file).unlink(missing_ok=True)


def _read(value: dict[str, Any]) -> Note | None:
    match value:
        case {"url": str(url), "since": int() | float() as since, "key": str() | None as key}:
            control = value.get("control")
            return Note(url, float(since), key, control if isinstance(control, str) else None)
        case _:
            return None
