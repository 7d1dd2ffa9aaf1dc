"""A peer on this machine's own sockets and threads: what a process of the swarm is made of.

Joins a node with TCP, compute threads, the clock and chance. Its roles are the node's own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId
from manyhands.domain.manifest import Piece
from manyhands.domain.settings import Settings
from manyhands.domain.span import missing
from manyhands.domain.swarm import Swarm
from manyhands.engine.compute import ComputeThread, join_all
from manyhands.errors import DeadlinePassed, ManyhandsError
from manyhands.net.tcp import TcpTransport
from manyhands.node.app import Node, Outside
from manyhands.node.model import Model
from manyhands.node.waking import Waking
from manyhands.plan.share import gaps, held_layers
from manyhands.store.hub import Hub
from manyhands.trust.certificate import Membership

log = logging.getLogger(__name__)

RENEW_AGAIN_S = 60.0
"""After a renewal that failed, at most; sooner where the certificate ends sooner."""

END_DEADLINE_S = 3.0
"""Ending waits this long for a step that computes."""

SOONEST_S = 1.0
"""Between two renewals, at least."""

Renewal = Callable[[], Awaitable[Membership]]


def wall_clock() -> float:
    """Unix seconds, by which records and certificates expire."""
    return datetime.now(UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a peer takes connections. `public_host` and `public_port` are what others dial, where
    they are others, as those that a router forwards.

    `more_hosts` are further addresses of this machine, in other networks.
    """

    host: str = "127.0.0.1"
    port: int = 0
    public_host: str | None = None
    more_hosts: tuple[str, ...] = ()
    public_port: int | None = None


class LivePeer:
    """One peer. Make it in the event loop, `run` it in a TaskGroup, then await `node.started()`.

    `on_start` runs first in each of its compute threads.
    """

    def __init__(
        self,
        membership: Membership,
        models: tuple[Model, ...],
        device: Device,
        settings: Settings,
        listening: Listening,
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self.membership = membership
        self._transport = TcpTransport(
            membership,
            listening.host,
            listening.port,
            public_host=listening.public_host,
            public_port=listening.public_port,
            more_hosts=listening.more_hosts,
            deadline_s=settings.dial_deadline_s,
            wall_clock=wall_clock,
        )
        self._threads = (
            ComputeThread(on_start),
            ComputeThread(on_start, "loading"),
            ComputeThread(name="disk"),
        )
        outside = Outside(
            keys=membership.keys,
            transport=self._transport,
            compute=self._threads[0],
            loading=self._threads[1],
            disk=self._threads[2],
            clock=asyncio.get_running_loop().time,
            wall_clock=wall_clock,
            chance=random.Random(secrets.randbits(64)),  # noqa: S311 (names sessions, no secret)
            device=device,
        )
        self.node = Node(outside, models, settings)
        self.node.fetcher.elsewhere = _from_hub

    @property
    def address(self) -> str:
        """Where others dial us; empty before the node has started."""
        return self.node.directory.address_of(self.node.peer) or ""

    async def adopt(self, model: Model, on_start: Callable[[], None] | None = None) -> None:
        """Know one more model; `on_start` runs in each compute thread before anything of it."""
        if on_start is not None:
            for thread in self._threads[:2]:
                await thread.run(on_start)
        self.node.add(model)

    async def in_each_thread(self, work: Callable[[], None]) -> None:
        """Run something in each of its threads, before what they are given later."""
        for thread in self._threads:
            await thread.run(work)

    async def run(self, renewal: Renewal | None = None) -> None:
        """Run until cancelled: farewells are said, threads and memories freed on the way out."""
        try:
            async with asyncio.TaskGroup() as roles:
                roles.create_task(self.node.run())
                clock = asyncio.get_running_loop().time
                roles.create_task(Waking(self.node, clock, wall_clock).run())
                if renewal is not None:
                    roles.create_task(self._renew(renewal))
        finally:
            for thread in self._threads:
                thread.close()
            await asyncio.to_thread(join_all, self._threads, END_DEADLINE_S)

    async def _renew(self, renewal: Renewal) -> None:
        """Show a newer certificate from half of the present one's life on."""
        has_failed = False
        while True:
            left_s = self.membership.expires_s - wall_clock()
            await asyncio.sleep(renewal_due_s(left_s, has_failed=has_failed))
            try:
                renewed = await renewal()
                self._transport.renew(renewed)
                self.membership, has_failed = renewed, False
            except ManyhandsError as error:
                log.warning("the membership could not be renewed: %s", error)
                has_failed = True


async def _from_hub(origin: str, piece: Piece) -> bytes:
    """A piece of a model that came from the hub."""
    return await asyncio.to_thread(Hub().read, origin, piece.file, piece.first, piece.last)


def renewal_due_s(left_s: float, *, has_failed: bool) -> float:
    """Seconds until a membership that ends in `left_s` is to be renewed, or tried once more."""
    wait_s = min(RENEW_AGAIN_S, left_s / 4) if has_failed else left_s / 2
    return max(wait_s, SOONEST_S)


async def until_covered(node: Node, model: Model, deadline_s: float) -> None:
    """Return once every layer of a model is ready somewhere.

    Raises DeadlinePassed naming the layers that nobody holds.
    """
    try:
        async with asyncio.timeout(deadline_s):
            while not is_covered(node.directory.swarm, model):
                await node.directory.changed()
    except TimeoutError:
        lost = gaps(held_layers(node.directory.swarm, ModelId(model.id), model.spec))
        names = ", ".join(map(str, lost)) or "some that are still being loaded"
        raise DeadlinePassed(
            f"after {deadline_s:.0f} s nobody holds layers {names} of the model; let another "
            "device join, or free memory"
        ) from None


def is_covered(swarm: Swarm, model: Model) -> bool:
    """True when every layer of a model is ready at some peer."""
    ready = (
        held.span
        for record in swarm.peers.values()
        for held in record.holdings
        if held.model == model.id and held.state == "ready"
    )
    return not missing(ready, len(model.spec.layers))
