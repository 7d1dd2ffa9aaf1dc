"""`hands run`: a model, its HTTP interfaces, and a chat with it in this terminal.

The chat asks over HTTP like everybody else; the swarm runs on an event loop in a second thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import threading

from manyhands.cli.chat import open_chat, talk
from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.serve import ServeOptions, serve
from manyhands.domain.settings import Settings

END_DEADLINE_S = 30.0
"""Children, answers and threads have shorter deadlines of their own."""


def run(console: Console, options: ServeOptions, settings: Settings) -> None:
    """Serve, talk until the person leaves, end cleanly. Raises what `serve` raises."""
    background = _Served(console, options, settings)
    background.thread.start()
    try:
        url = background.url()  # Ctrl-C in here: it was never ready, which is no success
        try:
            talk(open_chat(Api(url, options.api_key, background.control), None), console)
        except KeyboardInterrupt:
            console.say()
    finally:
        background.end()
    background.raise_failure()


class _Served:
    """`serve` on a loop of its own; what it fails by is raised by `url`, later `raise_failure`."""

    def __init__(self, console: Console, options: ServeOptions, settings: Settings) -> None:
        self.thread = threading.Thread(target=self._run, name="swarm", daemon=True)
        self._work = console, options, settings
        self._told: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = asyncio.Event()
        self.control = secrets.token_urlsafe()
        """By which the chat tells the swarm who is let in."""

    def url(self) -> str:
        """Wait until answers can be had; Ctrl-C breaks the wait."""
        while True:
            try:
                told = self._told.get(timeout=0.2)  # so that Windows hears Ctrl-C meanwhile
            except queue.Empty:
                continue
            if isinstance(told, BaseException):
                raise told
            return told

    def end(self) -> None:
        """Ask it to end, and wait for that."""
        if self._loop is not None and self.thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._asked.set)
            self.thread.join(END_DEADLINE_S)

    def raise_failure(self) -> None:
        """Raise what it fell by after answers could be had, if it did."""
        while not self._told.empty():
            told = self._told.get()
            if isinstance(told, BaseException):
                raise told

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 (the waiting thread must hear of anything)
            self._told.put(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        console, options, settings = self._work
        await serve(console, options, settings, self._asked, self._told.put, control=self.control)
