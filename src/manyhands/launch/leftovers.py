"""What must not outlast this process: cleared on the way out, or by the next one that starts.

Folders with keys, notes with a password, processes. Who ends a process at once calls `clear_all`;
after a kill -9 `sweep` removes the folders, whose locks are free then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

PREFIX = "manyhands-"
LOCK = "in-use.lock"
"""Held as long as the folder it lies in is used."""

_clearing: dict[object, Callable[[], None]] = {}
"""The newest last. Of the process, as its signals are: whoever hears one has nothing else."""


@contextlib.contextmanager
def cleared(clear: Callable[[], None]) -> Iterator[None]:
    """Call `clear` at the end; earlier, and from any thread, when the process ends at once."""
    key = object()
    _clearing[key] = clear
    try:
        yield
    finally:
        if _clearing.pop(key, None) is not None:
            clear()


def clear_all() -> None:
    """Clear what is there, the newest first, without waiting for anybody."""
    for key in reversed(tuple(_clearing)):
        clear = _clearing.pop(key, None)
        if clear is not None:
            with contextlib.suppress(OSError):
                clear()


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """An empty temporary folder that only this user can read; gone at the end with all in it."""
    sweep()
    folder, lock = _locked()

    def clear() -> None:
        lock.release(force=True)
        shutil.rmtree(folder, ignore_errors=True)

    with cleared(clear):
        yield folder


def sweep() -> None:
    """Remove the private folders of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, filelock.Timeout):
            if _is_ours(folder) and (folder / LOCK).is_file():
                with _lock(folder).acquire(blocking=False):
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)  # Windows keeps what is held


def _locked() -> tuple[Path, filelock.BaseFileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock(folder)
        lock.acquire()
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()  # swept between the file's making and its locking


def _lock(folder: Path) -> filelock.BaseFileLock:
    # not bound to a thread: whoever clears at once may be another one
    return filelock.FileLock(folder / LOCK, thread_local=False)


def _is_ours(folder: Path) -> bool:
    return not folder.is_symlink() and (os.name != "posix" or folder.stat().st_uid == os.getuid())
