"""Lines that a person types while an event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from manyhands.cli.console import Console


def is_typed_at(console: Console) -> bool:
    """True when a person looks on and can answer."""
    return console.is_terminal and sys.stdin is not None and sys.stdin.isatty()


def listen(heard: Callable[[str], None]) -> None:
    """Call `heard` in this loop with each line from now on, until input ends."""
    loop = asyncio.get_running_loop()
    if hasattr(signal, "SIGTTIN"):
        # in the background of a shell reading fails then, instead of stopping the process
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)

    def read() -> None:
        # not sys.stdin: a thread that waits in it breaks the interpreter's end
        with contextlib.suppress(OSError, RuntimeError):  # no terminal, or no loop, any more
            while line := os.read(0, 1024):
                loop.call_soon_threadsafe(heard, line.decode("utf-8", "replace").strip())

    threading.Thread(target=read, name="typed", daemon=True).start()


async def typed_line() -> str:
    """The next line; what is typed after it is lost."""
    line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    listen(lambda text: None if line.done() else line.set_result(text))
    return await line
