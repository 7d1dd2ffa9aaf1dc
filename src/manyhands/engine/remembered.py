"""Measured figures of this machine, kept for a week: measuring takes seconds, and one at a time.

They belong to a processor, an engine, a dtype, a number of threads and the versions beneath; those
of a busy machine are kept for minutes. Knows nothing of who plans with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from manyhands.domain.device import Device
from manyhands.engine.choice import free_memory_bytes
from manyhands.engine.measure import Measured, measure

KEPT_S, KEPT_BUSY_S = 7 * 86400.0, 600.0
BUSY = 0.25
"""Share of the processors that others used, from which on figures are low."""

WAIT_S = 90.0
"""For another process that is measuring; then ours measures too."""

LOOK_EVERY_S = 0.25


def measured_here(
    engine: str,
    dtype: str,
    threads: int | None,
    wall_clock: Callable[[], float],
    *,
    folder: Path | None = None,
    stop: threading.Event | None = None,
    measuring: Callable[..., Measured] = measure,
) -> Measured:
    """What `measure` says of this machine, from the disk if it was asked lately.

    Memory is what is free now. Raises what `measure` raises.
    """
    folder = folder or Path(platformdirs.user_cache_dir("manyhands")) / "measured"
    file = folder / f"{_name(engine, dtype, threads)}.json"
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, filelock.Timeout):  # a read-only home, or one that hangs
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_alone(folder / "measuring.lock", stop))
        known = _read(file, wall_clock())
        if known is not None:
            memory_bytes = free_memory_bytes()
            return replace(known, device=replace(known.device, memory_bytes=memory_bytes))
        found = measuring(engine, dtype=dtype, threads=threads, stop=stop)
        if not found.note:
            with contextlib.suppress(OSError):
                file.write_text(json.dumps(asdict(found)))
        return found


def _alone(file: Path, stop: threading.Event | None) -> filelock.BaseFileLock:
    """The lock, held, as soon as nobody has it. Raises Timeout after WAIT_S, or once stopped."""
    lock = filelock.FileLock(file)
    for _ in range(int(WAIT_S / LOOK_EVERY_S)):
        with contextlib.suppress(filelock.Timeout):
            return lock.acquire(timeout=LOOK_EVERY_S).lock
        if stop is not None and stop.is_set():
            break
    raise filelock.Timeout(str(file))


def _read(file: Path, now_s: float) -> Measured | None:
    """What was kept, unless it is too old or no longer in this form."""
    try:
        told: Mapping[str, Any] = json.loads(file.read_text())
        found = Measured(**{**told, "device": Device(**told["device"])})
        age_s = now_s - file.stat().st_mtime
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if age_s < (KEPT_S if found.busy < BUSY else KEPT_BUSY_S) else None


def _name(engine: str, dtype: str, threads: int | None) -> str:
    words = [engine, dtype, str(threads), str(os.cpu_count()), _processor()]
    for package in ("manyhands", "numpy", "torch", "numba"):
        with contextlib.suppress(PackageNotFoundError):
            words.append(f"{package} {version(package)}")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _processor() -> str:
    """Its name where the system tells one: a home folder may be used by several machines."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return f"{platform.machine()} {platform.processor()}"
