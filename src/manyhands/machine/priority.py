"""Makes what this process computes yield to everything else that runs on the machine.

Linux: the thread that asks, and those it starts later, run only where a processor has nothing else
to do (SCHED_IDLE; their disk reads come last as well). Elsewhere: the whole process, as far down as
the system lets it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

LOWEST = 19
GROUP = Path("/proc/self/autogroup")
GROUPS_MATTER = Path("/proc/sys/kernel/sched_autogroup_enabled")


def lower() -> None:
    """From now on; to be called in each thread that computes, before it starts others."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif sys.platform == "win32":
        psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)
    else:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, LOWEST)


@contextlib.contextmanager
def lowered_group(group: Path = GROUP, matters: Path = GROUPS_MATTER) -> Iterator[None]:
    """Meanwhile the terminal this runs in yields to others.

    Linux shares processors out among sessions first (autogroup), each terminal being one, then
    among the threads of each: without this a thread that yields to its own terminal yields to
    nobody else. No word where the kernel does not do so.
    """
    before = _nice_of(group, matters)
    if before is None or not _set_nice(group, LOWEST):
        yield
        return
    try:
        yield
    finally:
        _set_nice(group, before)


def _nice_of(group: Path, matters: Path) -> int | None:
    try:
        if matters.read_text().strip() != "1":
            return None
        return int(group.read_text().rpartition("nice")[2])
    except (OSError, ValueError):
        return None


def _set_nice(group: Path, nice: int) -> bool:
    try:
        group.write_text(str(nice))
    except OSError:
        return False
    return True
