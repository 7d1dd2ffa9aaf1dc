"""Bytes of weight files: read into fresh memory, or of our own layout shown where they lie.

What is shown is the file itself (mapped): loaded at once, in memory once for all processes of a
machine, and given back by the system where memory is short. Knows nothing of tensors.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

import numpy as np

from manyhands.errors import CheckpointError
from manyhands.store.weight_files import is_own


class WeightBytes:
    """The files of a folder, as they were when this was made."""

    def __init__(self, files: Iterable[Path]) -> None:
        # a span may be loaded long after: other weights by then would speak another text
        self._stamps = {file: _stamp(file) for file in files}
        self._maps: dict[Path, mmap.mmap] = {}

    def read(
        self, file: Path, first: int, last: int, *, is_kept: bool, is_growing: bool
    ) -> memoryview:
        """Read-only bytes [first, last); `is_growing` is a file that is being fetched.

        Shown is only what is kept: a look at a page here and there would map what is around it.

        Raises CheckpointError for a file that changed, ends too early or cannot be read.
        """
        try:
            with file.open("rb", buffering=0) as stream:
                if not is_growing and _stamp(stream.fileno()) != self._stamps[file]:
                    raise CheckpointError(
                        f"{file} was changed after it was opened; start again to use it as it is "
                        "now"
                    )
                found = (
                    self._shown(file, stream)[first:last]
                    if is_kept and is_own(file)
                    else _copied(stream, first, last - first)
                )
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
        if len(found) < last - first:
            raise CheckpointError(f"{file} ends too early; download it again")
        return found

    def _shown(self, file: Path, stream: FileIO) -> memoryview:
        """A whole file as memory, as long as somebody holds a part of it."""
        if file not in self._maps:
            self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._maps[file])


def _copied(stream: FileIO, first: int, count: int) -> memoryview:
    """`count` bytes from `first` on, fewer where the file ends."""
    buffer = np.empty(count, np.uint8).data
    stream.seek(first)
    filled = 0
    while filled < count and (got := stream.readinto(buffer[filled:])):
        filled += got
    return buffer[:filled].toreadonly()


def _stamp(file: Path | int) -> tuple[int, int, int]:
    """What changes when somebody writes a file anew."""
    try:
        told = os.stat(file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    return told.st_mtime_ns, told.st_size, told.st_ino
