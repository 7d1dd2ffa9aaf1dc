"""Ranges of addresses whose memory exists only where something was written, and can be shared.

A range is reserved once, as long as it may ever get: what is not touched costs nothing, so arrays
in it never move. On Linux it is a file in memory: another range shows a part of it at the same
place without a copy, until either is written to (vAttention, Prabhu et al. 2024, does so on GPUs).
Elsewhere showing is copying. Knows nothing of what is kept.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from typing import Any

PAGESIZE = mmap.PAGESIZE
"""Bytes of a page of the system's."""

RESERVES_FREELY = sys.platform != "win32"
"""Addresses alone cost nothing; Windows counts what is reserved as if it were used."""

_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000
"""Of Linux; Python's mmap module has no name for them."""


class Range:
    """`size_bytes` of addresses, a writable buffer of zeros. Raises MemoryError if there are none.

    `buffer` is what arrays are made from; they keep its memory alive. `address` is where it lies.
    """

    def __init__(self, size_bytes: int) -> None:
        self.buffer = _reserve(size_bytes)
        self._file = _memory_file(size_bytes)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        if self._file is not None:
            weakref.finalize(self, os.close, self._file)
            self._map(self._file, 0, size_bytes, mmap.MAP_SHARED)

    @property
    def can_be_shown(self) -> bool:
        """True where another range can show what this one holds without a copy."""
        return self._file is not None

    def show(self, other: Range, first: int, last: int) -> tuple[int, int]:
        """Let bytes [first, last) of this range be those of `other`'s, as they are now.

        Returns the part that is shown without a copy; the rest, at its ends, is the caller's to
        copy. `other` must not be written to there any more; what is written here stays here. Only
        what is `other`'s own is shown, not what it shows of a third. Raises MemoryError.
        """
        begin, end = _whole(first, last)
        if other._file is None or end <= begin:
            return first, first
        self._map(other._file, begin, end, mmap.MAP_PRIVATE)
        return begin, end

    def drop(self, first: int, last: int) -> None:
        """Give the memory of bytes [first, last), which must be this range's own, back at once."""
        begin, end = _whole(first, last)
        if end > begin and self._file is not None:
            self.buffer.madvise(mmap.MADV_REMOVE, begin, end - begin)
        elif end > begin and hasattr(mmap, "MADV_DONTNEED"):
            self.buffer.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def _map(self, file: int, begin: int, end: int, flags: int) -> None:
        """Put a part of a file at its place in this range, instead of what is there."""
        rights, at = mmap.PROT_READ | mmap.PROT_WRITE, self.address + begin
        if _LIBC.mmap(at, end - begin, rights, flags | _MAP_FIXED, file, begin) != at:
            why = os.strerror(ctypes.get_errno())
            raise MemoryError(f"the system mapped no {end - begin} bytes: {why}")


def _whole(first: int, last: int) -> tuple[int, int]:
    """The whole pages of the system within [first, last)."""
    return -(-first // PAGESIZE) * PAGESIZE, last // PAGESIZE * PAGESIZE


def _reserve(size_bytes: int) -> mmap.mmap:
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size_bytes)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # Python's default is shared by forks
        if sys.platform == "linux":
            flags |= _MAP_NORESERVE
        return mmap.mmap(-1, size_bytes, flags=flags)
    except (OSError, OverflowError) as fault:
        raise MemoryError(f"the system gave no {size_bytes} bytes: {fault}") from fault


def _memory_file(size_bytes: int) -> int | None:
    """A file that exists in memory only, where it was written; None where there are none."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return None
    try:
        file = os.memfd_create("manyhands-kv", os.MFD_CLOEXEC)
    except OSError:  # a sandbox may forbid it
        return None
    os.ftruncate(file, size_bytes)
    return file


def _libc() -> Any:
    """Python's own mmap chooses the address itself."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    number, size = ctypes.c_int, ctypes.c_size_t
    library.mmap.argtypes = (ctypes.c_void_p, size, number, number, number, ctypes.c_long)
    return library


_LIBC: Any = _libc() if sys.platform == "linux" else None
