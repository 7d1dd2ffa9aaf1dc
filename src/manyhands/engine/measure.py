"""What this machine does in about a second: bytes and operations a second of the engine used here.

The work runs in a child process with a deadline, so that kernels that crash (a processor may claim
what it cannot do) or hang cost an error or a note, never this process.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands.domain.device import Device
from manyhands.domain.weight_format import INTEGER_FORMATS
from manyhands.engine import compiled
from manyhands.engine.choice import Kind, free_memory_bytes
from manyhands.errors import ResourceError, from_code

CHILD = (sys.executable, "-P", "-m", "manyhands.engine.measure_child")
"""With -P: it must not take a `random.py` of the folder it is started in for Python's own."""

LEAST_BYTES, MOST_BYTES = 1 << 28, 1 << 30
"""Bounds of how many weight bytes are read for one figure."""

BEYOND_CACHE = 1.5
"""Weights read, in last-level caches: below 1 they might never leave the cache."""

LOOK_EVERY_S = 0.1
"""Whether to go on waiting for the child."""

MEMORY_SHARE = 0.25
"""The most of the free memory that measuring takes."""

_RATES = ("read_bytes_per_s", "flops_per_s", "bytes_per_number", "bytes_per_kv")


@dataclass(frozen=True, slots=True)
class Measured:
    """A device, and for which engine, dtype and threads its figures are.

    `threads` None is the engine's own choice. `dtype` may be a weight format, int8 or int4.
    `bytes_per_number` is of a weight, `bytes_per_kv` of an element of key/value memory. `busy` is
    the share of the processors that other programs used just before, 0 to 1: figures of a busy
    machine are low. `note` says why another engine than the usual one was measured, or nothing.
    """

    device: Device
    engine: str
    dtype: str
    threads: int | None
    bytes_per_number: float
    bytes_per_kv: float
    took_s: float
    busy: float = 0.0
    note: str = ""


def measure(
    engine: str = "auto",
    deadline_s: float = 60.0,
    *,
    dtype: str = "auto",
    threads: int | None = None,
    weight_bytes: int | None = None,
    child: Sequence[str] = CHILD,
    stop: threading.Event | None = None,
) -> Measured:
    """Measure what `choice.choose` would use here for a checkpoint of bfloat16.

    A `dtype` of int8 or int4 means one that was converted to it: the kernels that serve it here are
    compiled and tried before, if they never were. Takes two to four seconds, most of it starting
    Python and torch. `weight_bytes` is how much is read for one figure; None is beyond the cache.
    With `auto`, an engine that crashes is told in `note` and numpy is measured instead. Raises
    BadSetting as `choose` does, and ResourceError when the child crashes, says nonsense, is not
    done within `deadline_s`, or is ended by `stop`.
    """
    if dtype in INTEGER_FORMATS:
        compiled.kernels_serve()
    stop = stop or threading.Event()
    start, busy = time.monotonic(), _busy()
    wanted: dict[str, Any] = {
        "engine": engine,
        "dtype": dtype,
        "threads": threads,
        "weight_bytes": _weight_bytes() if weight_bytes is None else weight_bytes,
    }
    note = ""
    try:
        told = _ask(child, wanted, deadline_s, stop)
    except _Crash as crash:
        if engine != "auto":
            raise
        kept = {} if dtype in INTEGER_FORMATS else {"dtype": "auto", "threads": None}
        wanted.update(engine="numpy", **kept)
        told = _ask(child, wanted, deadline_s - (time.monotonic() - start), stop)
        note = f"numpy was measured, since the usual engine failed: {crash}"
    device = Device(
        kind="cpu",
        memory_bytes=free_memory_bytes(),
        read_bytes_per_s=told["read_bytes_per_s"],
        flops_per_s=told["flops_per_s"],
        overhead_s=told["overhead_s"],
    )
    return Measured(
        device=device,
        engine=told["engine"],
        dtype=told["dtype"],
        threads=wanted["threads"],
        bytes_per_number=told["bytes_per_number"],
        bytes_per_kv=told["bytes_per_kv"],
        took_s=time.monotonic() - start,
        busy=busy,
        note=note,
    )


def names(kind: Kind) -> tuple[str, str]:
    """Engine and dtype of a choice: ("torch", "bf16")."""
    profile = kind.profile("")
    return profile.kernels.split("-")[0], profile.arithmetic.split()[0]


class _Crash(ResourceError):
    """The child ended by itself without figures; what it ran may run otherwise."""


def _ask(
    child: Sequence[str], wanted: dict[str, Any], deadline_s: float, stop: threading.Event
) -> dict[str, Any]:
    try:
        done = _done([*child, json.dumps(wanted)], deadline_s, stop)
    except TimeoutError as late:
        raise ResourceError(
            f"measuring this machine was not done after {deadline_s:.0f} s; it may be busy: try "
            "again later, or give it longer"
        ) from late
    except OSError as error:
        raise ResourceError(
            f"measuring needs a second process, and {child[0]!r} does not start: {error}"
        ) from error
    told = _figures(done.stdout)
    if "error" in told:
        raise from_code(str(told.get("code")), str(told["error"]))
    if done.returncode != 0 or not _are_sound(told):
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        said = f": {last[0][:200]}" if last else ""
        raise _Crash(f"measuring with {wanted['engine']} ended with {_ending(done)}{said}")
    return told


def _done(
    words: list[str], deadline_s: float, stop: threading.Event
) -> subprocess.CompletedProcess[str]:
    """A process that has ended. Raises TimeoutError, OSError; ResourceError when stopped."""
    until_s = time.monotonic() + deadline_s
    with subprocess.Popen(  # noqa: S603 (our own module, no shell, nothing from outside)
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us; a child that it killed would be a crash
    ) as process:
        try:
            while True:
                if stop.is_set():
                    raise ResourceError("measuring this machine was stopped")
                if time.monotonic() >= until_s:
                    raise TimeoutError
                with contextlib.suppress(subprocess.TimeoutExpired):
                    said, complained = process.communicate(timeout=LOOK_EVERY_S)
                    return subprocess.CompletedProcess(words, process.returncode, said, complained)
        finally:
            process.kill()  # nothing where it has ended


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    code = done.returncode
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _figures(printed: str) -> dict[str, Any]:
    """The object of the last line; libraries may have printed before it."""
    lines = printed.strip().splitlines()
    try:
        told = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _are_sound(told: dict[str, Any]) -> bool:
    """True when every figure is there and could be of a machine."""

    def is_figure(name: str, above: float) -> bool:
        value = told.get(name)
        return isinstance(value, float) and math.isfinite(value) and value > above

    named = all(isinstance(told.get(name), str) for name in ("engine", "dtype"))
    return named and all(is_figure(name, 0) for name in _RATES) and is_figure("overhead_s", -1e-9)


def _busy() -> float:
    """Looked at for a tenth of a second; 0 where nobody tells."""
    try:
        import psutil
    except ImportError:
        return 0.0
    return float(psutil.cpu_percent(interval=0.1)) / 100


def _weight_bytes() -> int:
    wanted = min(max(int(BEYOND_CACHE * _cache_bytes()), LEAST_BYTES), MOST_BYTES)
    return min(wanted, int(MEMORY_SHARE * free_memory_bytes()))


def _cache_bytes() -> int:
    """The last-level cache where Linux tells it, else 0: LEAST_BYTES is beyond most."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(path.read_text(encoding="ascii").strip().removesuffix("K")) * 1024)
    return max(sizes)
