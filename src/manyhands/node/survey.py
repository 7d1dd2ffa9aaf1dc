"""The survey role: how long messages to each neighbour take, and how much a second goes there.

By round trips and a burst over the connection for large and slow things, one neighbour at a time,
when it comes and again after a while. Knows nothing of who plans with the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from manyhands.domain.ids import PeerId
from manyhands.domain.messages import Probe, Probed
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import MOST_LINKS, LinkTo
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.node.peers import Clock

TRIPS = 5
"""Small probes; the quickest counts, since the others waited for something else."""

BURST_FRAMES, FRAME_BYTES = 4, 1 << 18
"""A burst: 1 MiB."""

DRIFT = 0.1
"""A figure that changed by no more is not told anew."""

LOOK_EVERY_S = 1.0
"""For neighbours that came, and figures that are old."""

_BURST = TensorFrame("fp32", (1, FRAME_BYTES // 4), bytes(FRAME_BYTES))


class Survey:
    """Use: `run` as a task, `receive` what comes; `links` is what was measured last."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, Probe | Probed], None],
        neighbours: Callable[[], tuple[PeerId, ...]],
        changed: Callable[[], None],
    ) -> None:
        self._clock, self._settings = clock, settings
        self._send, self._neighbours, self._changed = send, neighbours, changed
        self._links: dict[PeerId, LinkTo] = {}
        self._measured_s: dict[PeerId, float] = {}
        self._answers: dict[int, tuple[PeerId, asyncio.Future[None]]] = {}
        self._number = 0

    @property
    def links(self) -> tuple[LinkTo, ...]:
        """From us to each neighbour that answered."""
        return tuple(link for _, link in sorted(self._links.items()))

    async def run(self) -> None:
        """Measure, until cancelled; with `survey_every_s` 0 nobody is asked."""
        if self._settings.survey_every_s == 0:
            return
        while True:
            here = set(self._neighbours())
            for gone in self._measured_s.keys() - here:
                del self._measured_s[gone]
                self._links.pop(gone, None)
            peer = self._next(here)
            if peer is None:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            self._measured_s[peer] = self._clock()
            try:
                async with asyncio.timeout(self._settings.dial_deadline_s):
                    self._found(await self._measure(peer))
            except TimeoutError:
                continue  # it is busy or gone: what was known stays, it is asked again in its turn
            finally:
                self._answers.clear()

    def receive(self, source: PeerId, message: Probe | Probed) -> None:
        """Answer a probe; take an answer to ours."""
        if isinstance(message, Probe):
            self._send(source, Probed(message.number))
            return
        asked, waiting = self._answers.get(message.number, (None, None))
        if asked == source and waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _next(self, here: set[PeerId]) -> PeerId | None:
        """Who was never measured, or longest ago, if that is long ago."""
        known = sorted(here)[:MOST_LINKS]
        peer = min(known, key=lambda name: self._measured_s.get(name, -1.0), default=None)
        if peer is None or peer not in self._measured_s:
            return peer
        age_s = self._clock() - self._measured_s[peer]
        return peer if age_s >= self._settings.survey_every_s else None

    async def _measure(self, peer: PeerId) -> LinkTo:
        trip_s = min([await self._trip_s(peer, ()) for _ in range(TRIPS)])
        burst_s = await self._trip_s(peer, (_BURST,) * BURST_FRAMES)
        sent_s = max(burst_s - trip_s, 1e-6)
        return LinkTo(peer, trip_s / 2, BURST_FRAMES * FRAME_BYTES / sent_s)

    async def _trip_s(self, peer: PeerId, burst: tuple[TensorFrame, ...]) -> float:
        """Seconds from the first of some probes to the answer to the last."""
        started_s = self._clock()
        for fill in burst or (None,):
            self._number += 1
            answered = asyncio.get_running_loop().create_future()
            self._answers[self._number] = peer, answered
            self._send(peer, Probe(self._number, fill))
        await answered
        return self._clock() - started_s

    def _found(self, link: LinkTo) -> None:
        known = self._links.get(link.target)
        self._links[link.target] = link
        if known is None or _differ(known, link):
            self._changed()


def _differ(one: LinkTo, other: LinkTo) -> bool:
    """True when a figure moved by more than a drift worth telling."""
    pairs = (
        (one.latency_s, other.latency_s),
        (one.rate_bytes_per_s, other.rate_bytes_per_s),
    )
    return any(abs(new - old) > DRIFT * old for old, new in pairs)
