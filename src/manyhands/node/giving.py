"""Gives what the user's limits let it, and nothing meanwhile; leaves without breaking an answer.

Looks at the machine twice a second, so that giving stops within one. `plan/giving` decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from manyhands.domain.giving import TOLD, Limits, Pause, Surroundings
from manyhands.node.app import Node
from manyhands.node.memories import Key
from manyhands.plan.giving import is_held_by_others, pause

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.4
"""With the look itself and a step under way, giving stops within a second."""

HAND_OVER_S = 1.0
"""Who is told to go on elsewhere takes leave, or not: it may be idle."""

UNDER_WAY_S = 3.0
"""A session that asked for nothing so long is not under way."""

TICK_S = 0.05

Look = Callable[[], Awaitable[Surroundings]]
Told = Callable[[Pause], None]


class Giving:
    """One node's giving. `told` hears of every change of it."""

    def __init__(self, node: Node, limits: Limits, look: Look, told: Told) -> None:
        self._node, self._limits = node, limits
        self._look, self._told = look, told
        self._is_leaving = self._is_asleep = False
        self._progress: dict[Key, tuple[int, float]] = {}

    async def run(self) -> None:
        """Follow the machine until cancelled, or until it leaves."""
        while not self._is_leaving:
            seen = await self._look()
            if not self._is_leaving and not self._is_asleep:
                self._follow(pause(self._limits, seen, self._node.paused))
            await asyncio.sleep(LOOK_EVERY_S)

    def sleep(self, *, is_asleep: bool) -> None:
        """The machine is about to sleep: there is a moment to say so; or it has woken."""
        self._is_asleep = is_asleep
        if is_asleep and not self._is_leaving:
            self._follow("asleep")

    async def leave(self, told_of_wait: Callable[[int], None]) -> None:
        """Take nothing new; return once the others have taken over what is under way here.

        What nobody else can is finished first; `told_of_wait` hears how many sessions that are.
        """
        self._is_leaving = True
        if self._node.paused:
            return  # all was handed over already
        self._node.pause("leaving", finishes=True)
        has_told = False
        while True:
            count = self._under_way()
            if not count or self._others_can():
                break
            if not has_told:
                told_of_wait(count)
                has_told = True
            await asyncio.sleep(TICK_S)
        self._node.pause("leaving")
        for _ in range(round(HAND_OVER_S / TICK_S)):
            if not self._node.worker.of_others():
                break
            await asyncio.sleep(TICK_S)

    def _follow(self, why: Pause) -> None:
        if why == self._node.paused:
            return
        if why:
            log.info("giving stops: %s", TOLD[why])
            self._node.pause(why)
        else:
            log.info("giving begins again")
            self._node.resume()
        self._told(why)

    def _under_way(self) -> int:
        """Sessions of others that have gone on lately."""
        now_s, found = asyncio.get_running_loop().time(), set()
        for memory in self._node.worker.of_others():
            key = memory.session, memory.span
            finished, since_s = self._progress.get(key, (-1, now_s))
            if finished != memory.finished or memory.running_since_s is not None:
                since_s = now_s
            self._progress[key] = memory.finished, since_s
            if now_s - since_s < UNDER_WAY_S:
                found.add(memory.session)
        return len(found)

    def _others_can(self) -> bool:
        swarm, me = self._node.directory.swarm, self._node.peer
        memories = self._node.worker.of_others()
        return all(is_held_by_others(swarm, me, one.model, one.span) for one in memories)
