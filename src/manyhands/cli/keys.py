"""Single keys that a viewer presses while something runs, without Enter.

Where there is no terminal to read from, nobody presses anything.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable

MOST_BYTES = 1024


@contextlib.asynccontextmanager
async def key_presses(pressed: Callable[[str], None]) -> AsyncIterator[bool]:
    """Call `pressed` with each key; True where keys can be read. The terminal is restored."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield False
        return
    try:
        import termios
        import tty
    except ImportError:  # Windows
        async with _polled(pressed):
            yield True
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read() -> None:
        # past sys.stdin, which would keep what was pressed faster than we were called
        try:
            came = os.read(descriptor, MOST_BYTES)
        except OSError:
            came = b""
        if not came:  # the terminal is gone
            loop.remove_reader(descriptor)
        for key in decoder.decode(came):
            pressed(key)

    try:
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, read)
        yield True
    finally:
        loop.remove_reader(descriptor)
        with contextlib.suppress(termios.error):  # as above
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.asynccontextmanager
async def _polled(pressed: Callable[[str], None]) -> AsyncIterator[None]:
    import msvcrt

    async def poll() -> None:
        while True:
            await asyncio.sleep(0.05)
            while msvcrt.kbhit():  # type: ignore[attr-defined,unused-ignore]
                pressed(msvcrt.getwch())  # type: ignore[attr-defined,unused-ignore]

    async with asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(poll())
        try:
            yield
        finally:
            polling.cancel()
