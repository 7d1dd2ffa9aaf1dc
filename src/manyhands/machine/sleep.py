"""Hears from logind, over the system's D-Bus, that this machine is about to sleep and has woken.

By `gdbus`, which desktops have, so that no library is needed; where it or the bus is missing
nothing is heard, and a sleep is noticed afterwards, by the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncGenerator, Sequence

LOGIND = (
    "gdbus", "monitor", "--system", "--dest", "org.freedesktop.login1",
    "--object-path", "/org/freedesktop/login1",
)  # fmt: skip
_SLEEP = re.compile(r"org\.freedesktop\.login1\.Manager\.PrepareForSleep \((true|false),?\)")


async def announced(words: Sequence[str] = LOGIND) -> AsyncGenerator[bool, None]:
    """True when it is about to sleep, False once it has woken; ends where nobody tells."""
    if shutil.which(words[0]) is None:
        return
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return
    try:
        while process.stdout is not None and (line := await process.stdout.readline()):
            found = _SLEEP.search(line.decode("utf-8", "replace"))
            if found is not None:
                yield found[1] == "true"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # not Process.kill: it looks first whether the child has ended, and may take its
                # end from asyncio, which then complains
                os.kill(process.pid, signal.SIGKILL)
        await process.wait()
