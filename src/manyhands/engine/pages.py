"""Memory that goes back to the system the moment it is freed, for arrays that come and go.

Key/value memories grow by being copied into larger ones. From the ordinary heap that left holes of
up to the whole budget (glibc stops giving large blocks back once some were freed): 170 MB resident
for 96 MB of keys and values. Pages that nobody has written to take no memory at all.
Knows nothing of what is kept in them.
"""

from __future__ import annotations

import mmap
import sys

LEAST_BYTES = 2**18
"""Smaller arrays are better off in the heap: a process may hold 65,530 mappings on Linux."""


def fresh_pages(size_bytes: int) -> mmap.mmap:
    """A writable buffer of zeros. Raises MemoryError when the system has none."""
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size_bytes)
        # Private: Python's default would share the pages with every forked process.
        return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as fault:
        raise MemoryError(f"the system gave no {size_bytes} bytes: {fault}") from fault
