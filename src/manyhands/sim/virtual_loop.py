"""An asyncio event loop on virtual time: sleeping costs nothing, and every run is the same run.

Knows nothing of peers. Threads and sockets do not exist here: work that needs them belongs outside.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from manyhands.errors import ManyhandsError

T = TypeVar("T")


class Deadlock(ManyhandsError):
    """Every task waits for something that can never happen."""

    code = "deadlock"


class _VirtualSelector(selectors.SelectSelector):
    """Instead of waiting for sockets it moves the clock to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is due: every task waits for something that cannot happen")
        self.now_s += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and jumps from timer to timer."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now_s


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a fresh virtual loop to its end. Raises Deadlock when it cannot go on."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


class VirtualCompute:
    """Compute on virtual time: work runs at once, then its cost is slept."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed

    async def run(self, work: Callable[[], T], cost_s: float) -> T:
        """Do `work`, and let `cost_s` / speed virtual seconds pass."""
        result = work()
        await asyncio.sleep(cost_s / self.speed)
        return result
