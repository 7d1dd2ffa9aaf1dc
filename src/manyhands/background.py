"""An event loop in a thread of its own, with one swarm on it; it ends with its model.

Nobody who waits is left waiting: closing, a swarm that breaks and a fork end in a typed error.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from manyhands.errors import ManyhandsError, UserError
from manyhands.node.local import LocalSwarm

T = TypeVar("T")

CLOSE_DEADLINE_S = 5.0
"""Closing waits this long for a step that computes; the thread ends with the program anyway."""


class Background:
    """Work for the loop goes through `ask`; `close` may be called from anywhere, more than once."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._swarm: LocalSwarm | None = None
        self._ended: ManyhandsError | None = None
        self._ending: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="manyhands", daemon=True)
        self._thread.start()

    def check_open(self) -> None:
        """Raise the error that says why nothing can be asked any more, if so."""
        if os.getpid() != self._process:
            raise UserError("the model was loaded before this process was forked; load it here")
        if self._ended is not None:
            raise self._ended
        if not self._thread.is_alive():
            raise UserError("the model is closed; load it again")

    def ask(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop. Raises UserError after `close` or in a forked process."""
        try:
            self.check_open()
            return asyncio.run_coroutine_threadsafe(self._guard(work), self._loop)
        except BaseException:
            work.close()
            raise

    def start(self, make: Callable[[], LocalSwarm]) -> LocalSwarm:
        """Make a swarm and return it once it serves; on an error everything is ended first."""
        ready: Future[LocalSwarm] = Future()
        asyncio.run_coroutine_threadsafe(self._serve(make, ready), self._loop)
        try:
            return ready.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the swarm, the loop and the thread; whoever waits gets an error."""
        if os.getpid() != self._process or not self._thread.is_alive():
            return
        self._end_soon(UserError("the model is closed; load it again"))
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_DEADLINE_S)

    def _end_soon(self, why: ManyhandsError) -> None:
        self._ended = self._ended or why
        try:
            self._loop.call_soon_threadsafe(self._begin_end)
        except RuntimeError:
            return  # the loop has ended meanwhile

    def _begin_end(self) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        """Stop the swarm, then whatever still runs, then the loop."""
        if self._swarm is not None:
            self._swarm.stop()
        others = [task for task in asyncio.all_tasks() if task is not self._ending]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._loop.stop()

    async def _guard(self, work: Coroutine[Any, Any, T]) -> T:
        """What was cancelled because everything ends, ends with the reason."""
        try:
            return await work
        except asyncio.CancelledError:
            if self._ended is not None:
                raise self._ended from None
            raise

    async def _serve(self, make: Callable[[], LocalSwarm], ready: Future[LocalSwarm]) -> None:
        started = asyncio.Event()
        try:
            swarm = self._swarm = make()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(swarm.serve(started))
                waiting = tasks.create_task(started.wait())
                await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
                if started.is_set():
                    ready.set_result(swarm)
                waiting.cancel()
        except BaseException as error:  # noqa: BLE001 (whoever waits must be told, whatever it is)
            first = _first(error)
            if not ready.done():
                ready.set_exception(first)
            elif self._ended is None:
                self._end_soon(ManyhandsError(f"the swarm ended by {first!r}; load it again"))

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _first(error: BaseException) -> BaseException:
    """The first error inside nested groups: what the user should read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
