"""Whether the compiled kernels serve on this machine, and crews of threads that run them.

They are compiled once for a processor and a version, in a child process that compares them with
the numpy reference bit for bit: a kernel that crashes or is wrong there is never used here. What
was compiled is kept in the person's cache folder. Without numba, or where the child fails, numpy
serves: the same products, slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

CHILD = (sys.executable, "-P", "-m", "manyhands.engine.compiled_child")
DEADLINE_S = 300.0
"""Compiling takes 2 to 10 s, on a busy machine a minute."""

_SOURCES = (
    "attend_kernels",
    "attend_tile",
    "block_kernels",
    "block_linear",
    "block_reference",
    "block_tile",
    "crew",
    "lane_math",
    "native",
    "row_attention",
    "row_kernels",
    "row_tile",
)
_TRIED = "tried"
_log = logging.getLogger(__name__)


def new_crew(threads: int | None) -> Crew | None:
    """So many threads (None: one a processor) for the compiled kernels; None where numpy serves."""
    if not kernels_serve():
        return None
    with kept_here():
        from manyhands.engine import block_kernels, row_kernels
        from manyhands.engine.crew import Crew

    return Crew(processors() if threads is None else threads, block_kernels, row_kernels)


def processors() -> int:
    """How many this process may use."""
    with contextlib.suppress(AttributeError):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def kernels_serve() -> bool:
    """True when numba is there and its kernels gave the right numbers in a child process."""
    if importlib.util.find_spec("numba") is None:
        return False
    folder = kernel_folder()
    if (folder / _TRIED).exists():
        return True
    _log.info("compiling kernels for this processor, once")
    failure = trial(CHILD)
    if failure is not None:
        _log.warning("integer weights are multiplied by numpy, slowly: %s", failure)
        return False
    with contextlib.suppress(OSError):  # no home: they are compiled anew next time
        (folder / _TRIED).touch()
    return True


def kernel_set() -> str:
    """Which kernels serve: those of different names may differ in an attention's last bits."""
    if not kernels_serve():
        return "numpy"
    from manyhands.engine.lane_math import FUSED

    return "compiled" if FUSED else "compiled-unfused"


def trial(child: Sequence[str]) -> str | None:
    """Run the child; what went wrong, or None."""
    try:
        done = subprocess.run(  # noqa: S603 (our own module, no shell, nothing from outside)
            child,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"trying the compiled kernels was not done after {DEADLINE_S:.0f} s"
    except OSError as error:
        return f"trying the compiled kernels needs a second process: {error}"
    if done.returncode == 0:
        return None
    said = done.stdout.strip().splitlines()[-1:]
    return f"trying the compiled kernels ended with {done.returncode}: {''.join(said)[:200]}"


def kernel_folder() -> Path:
    """Where kernels compiled by this version, for this processor, are kept."""
    from numba.core import config

    named = hashlib.sha256()
    for word in ("numba", "llvmlite", "numpy"):
        named.update(f"{word} {version(word)}\n".encode())
    named.update(f"{_processor()} {config.CPU_NAME} {config.CPU_FEATURES}\n".encode())
    for source in _SOURCES:
        file = Path(__file__).parent / f"{source}.py"
        # numba takes what it kept for stale where the file is another, be its text the same
        named.update(f"{file} {file.stat().st_mtime_ns}\n".encode() + file.read_bytes())
    return Path(platformdirs.user_cache_dir("manyhands")) / "kernels" / named.hexdigest()[:16]


def _processor() -> str:
    from llvmlite import binding

    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"


@contextlib.contextmanager
def kept_here() -> Iterator[None]:
    """While our kernels are imported, numba keeps what it compiles in our folder."""
    from numba.core import config

    before = config.CACHE_DIR
    config.CACHE_DIR = str(kernel_folder())
    try:
        yield
    finally:
        config.CACHE_DIR = before
