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
from manyhands.errors import UserError


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
    """The next line. Raises UserError when input has ended."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def tell(text: bytes) -> None:
        if not line.done():
            line.set_result(text.decode("utf-8", "replace"))

    def read() -> None:
        text = b""
        with contextlib.suppress(OSError):  # no terminal any more
            text = os.read(0, 1024)
        with contextlib.suppress(RuntimeError):  # no loop any more
            loop.call_soon_threadsafe(tell, text)

    threading.Thread(target=read, name="typed-line", daemon=True).start()
    said = await line
    if not said:
        raise UserError("input has ended before an answer was typed; say which on the command line")
    return said.strip()
