"""Notices that this machine slept, and has its node begin anew with the others, by itself.

Time that passed while nothing here ran was a sleep: the others have gone on without us. On many
systems the clock of the event loop stands still meanwhile, the shared one never does.
"""

from __future__ import annotations

import asyncio
import logging

from manyhands.node.app import Node
from manyhands.node.peers import Clock

log = logging.getLogger(__name__)

SLEPT_S = 8.0
"""So much time without a turn was a sleep: shorter ones are mended by the sessions themselves."""

LOOK_EVERY_S = 1.0


class Waking:
    """Keep `run` running beside the node's own."""

    def __init__(self, node: Node, clock: Clock, wall_clock: Clock) -> None:
        self._node, self._clock, self._wall_clock = node, clock, wall_clock

    async def run(self) -> None:
        """Look at both clocks until cancelled."""
        now_s, wall_s = self._clock(), self._wall_clock()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            before_s, before_wall_s = now_s, wall_s
            now_s, wall_s = self._clock(), self._wall_clock()
            passed_s, passed_wall_s = now_s - before_s, wall_s - before_wall_s
            if max(passed_s, passed_wall_s) - LOOK_EVERY_S > SLEPT_S:
                log.info("this machine slept for %.0f s", max(passed_s, passed_wall_s))
                self._node.woke(max(0.0, passed_wall_s - passed_s))
