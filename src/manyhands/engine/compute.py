"""Compute: the one way by which asynchronous code reaches an engine, and the real thread behind it.

Knows nothing of engines: work is any callable. The simulator has a Compute of its own that runs the
work at once and sleeps `cost_s` of virtual time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from manyhands.errors import ManyhandsError

T = TypeVar("T")


class Compute(Protocol):
    """One device's queue of work, done one after the other in the order it was asked for."""

    async def run(self, work: Callable[[], T], cost_s: float) -> T:
        """What `work` returns or raises; `cost_s` is what it is expected to take (seconds).

        A waiter that is cancelled leaves its work in the queue: it is done all the same, so that
        closing a session is never lost, and nobody is told.
        """


_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class ComputeThread:
    """One own daemon thread: SimpleQueue in, `call_soon_threadsafe` out (15 µs; executors 26-102).

    `on_start` runs in the thread before its first work: torch's threads must be set there, since a
    thread that never touched torch has its own, slower settings. What it raises, every work raises.
    """

    def __init__(self, on_start: Callable[[], None] | None = None, name: str = "compute") -> None:
        self._on_start = on_start
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T], cost_s: float = 0.0) -> T:  # noqa: ARG002 (virtual time needs it)
        """See Compute. Raises ManyhandsError once closed."""
        if self._closed:
            raise ManyhandsError("the compute thread is closed; open the node again to go on")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put((work, loop, future))
        return await future

    def close(self) -> None:
        """Take no more work; the thread ends after what is queued. Returns at once."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread to end after `close`; True when it has. Blocks, so not on a loop."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        fault = self._start()
        while (job := self._queue.get()) is not None:
            work, loop, future = job
            result: Any = None
            error = fault
            if error is None:
                try:
                    result = work()
                except BaseException as raised:  # noqa: BLE001 (passed through to whoever waits)
                    error = raised
            try:
                loop.call_soon_threadsafe(_answer, future, result, error)
            except RuntimeError:
                continue  # the waiter's loop is closed: nobody is left to be told
            finally:
                # A kept reference would keep a finished step's tensors until the next one comes.
                del job, work, loop, future, result, error

    def _start(self) -> BaseException | None:
        try:
            if self._on_start is not None:
                self._on_start()
        except BaseException as raised:  # noqa: BLE001 (passed through to whoever waits)
            return raised
        return None


def join_all(threads: Iterable[ComputeThread], deadline_s: float) -> None:
    """Wait for closed threads, all together no longer than `deadline_s`; blocks.

    To be done before the process ends: a thread that is inside torch while Python shuts down takes
    the process with it ("terminate called without an active exception").
    """
    until_s = time.monotonic() + deadline_s
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))


def _answer(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration) or not isinstance(error, Exception):
        # These would end the awaiting coroutine or the whole loop, not tell them of a failed work.
        fault = RuntimeError(f"work raised {error!r}")
        fault.__cause__ = error
        future.set_exception(fault)
    else:
        future.set_exception(error)
