"""Where sessions of this owner wait while the swarm's memory is full: first come, first served.

Who waits holds nothing anywhere, so no two sessions can wait for each other. Knows nothing of how a
session is opened.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from manyhands.errors import MemoryFull
from manyhands.node.peers import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_WAITING = 256
"""More are refused at once."""

RETRY_S = (0.05, 0.5)
"""Range of the time between two tries of the first in the row; others' sessions end unheard."""


class WaitingRoom:
    """One an owner. `chance` keeps owners that wait for the same peer from trying in step."""

    def __init__(self, clock: Clock, chance: random.Random, wait_s: float) -> None:
        self._clock, self._chance, self._wait_s = clock, chance, wait_s
        self._row: list[object] = []
        self._moved = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._row)

    def freed(self) -> None:
        """A session of ours has ended: the first in the row may try now."""
        self._moved.set()

    async def admit(self, enter: Callable[[], Awaitable[T]]) -> T:
        """What `enter` returns, tried again while it raises MemoryFull, by turns, within `wait_s`.

        Raises the last MemoryFull, with how long and behind how many it has waited.
        """
        until_s = self._clock() + self._wait_s
        if not self._row:
            try:
                return await enter()
            except MemoryFull as full:
                if self._wait_s == 0:
                    raise
                log.info("waiting for memory: %s", full)
        if len(self._row) >= MOST_WAITING:
            raise MemoryFull(f"{MOST_WAITING} sessions wait for memory already; ask again later")
        ticket, full_now = object(), MemoryFull("others wait for memory; ask again later")
        behind = len(self._row)
        self._row.append(ticket)
        try:
            while True:
                await self._turn(until_s)
                if self._row[0] is ticket:
                    try:
                        return await enter()
                    except MemoryFull as full:
                        full_now = full
                if self._clock() >= until_s:
                    raise MemoryFull(
                        f"{full_now} (waited {self._wait_s:.0f} s, behind {behind} others)"
                    )
        finally:
            self._row.remove(ticket)
            self._moved.set()

    async def _turn(self, until_s: float) -> None:
        """Wait for a sign, or for as long as the first in the row leaves between two tries."""
        pause_s = self._chance.uniform(*RETRY_S)
        self._moved.clear()
        try:
            async with asyncio.timeout_at(min(until_s, self._clock() + pause_s)):
                await self._moved.wait()
        except TimeoutError:
            return
