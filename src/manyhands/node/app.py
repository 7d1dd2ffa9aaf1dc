"""A node: one peer with all its roles, run in one TaskGroup.

The only place that joins links, engines, plans and the clock. Everything outside is an argument, so
that the same node runs on sockets, in memory and on virtual time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

from manyhands.domain.device import Device
from manyhands.domain.giving import TOLD, Pause
from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import (
    Ack,
    Announce,
    AskBlock,
    AskMove,
    AskPieces,
    Beat,
    Block,
    Credit,
    Gap,
    Goodbye,
    Hello,
    Lane,
    LinkLost,
    ManifestTold,
    Message,
    NotGiven,
    NotMoved,
    PiecesHad,
    Probe,
    Probed,
    Ready,
    Refused,
    Renew,
    Replay,
    Replayed,
    Rewire,
    SessionClose,
)
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.work import Result, SessionOpen, Step
from manyhands.engine.compute import Compute
from manyhands.errors import PeerPaused
from manyhands.net.transport import Transport
from manyhands.node.allowance import Allowance
from manyhands.node.directory import About, Directory
from manyhands.node.fetcher import Fetcher
from manyhands.node.gauge import Gauge
from manyhands.node.holdings import Holdings
from manyhands.node.model import Model
from manyhands.node.mover import Followed, Mover
from manyhands.node.owner import Owner
from manyhands.node.peers import Clock, Loss, Peers
from manyhands.node.rehearsal import Rehearsal
from manyhands.node.replanner import Replanner
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.node.seeder import Seeder
from manyhands.node.survey import Survey
from manyhands.node.worker import Worker
from manyhands.trust.signature import KeyPair


@dataclass(frozen=True, slots=True)
class Outside:
    """All that a node has of the world: key, links, compute, clock and chance.

    `clock` must be the event loop's own; `wall_clock` is the one that peers share (unix seconds),
    by which records expire. `loading` runs beside `compute`, so that reading weights holds up
    nobody's steps, and `disk` beside both: there pieces of models are read, hashed and written.
    """

    keys: KeyPair
    transport: Transport
    compute: Compute
    loading: Compute
    disk: Compute
    clock: Clock
    wall_clock: Clock
    chance: random.Random
    device: Device


class Node:
    """Use: `async with asyncio.TaskGroup()`: create a task of `run()`, then `await started()`."""

    def __init__(
        self,
        outside: Outside,
        models: Iterable[Model],
        settings: Settings,
        rules: Rules = ALL_RULES,
    ) -> None:
        me, clock = outside.keys.peer, outside.clock
        known = {model.id: model for model in models}
        self.peer = me
        self.settings = settings
        self.name = ""
        """What people call this device; it is told to all members."""
        self._rules = rules
        self.kernels = next((model.profile.kernels for model in known.values()), "")
        self.paused: Pause = ""
        self.allowance = Allowance(clock)
        self._started = asyncio.Event()
        self.peers = Peers(
            me,
            outside.transport,
            clock,
            settings,
            lambda peer: self.directory.address_of(peer),
            self,
            self.allowance,
        )
        send, neighbours = self.peers.send, lambda: self.peers.connected("bulk")
        self.directory = Directory(
            outside.keys, outside.wall_clock, settings, self._about, send, neighbours
        )
        rehearsal = Rehearsal(outside.loading, clock, lambda *found: self.gauge.rehearsed(*found))
        self.holdings = Holdings(
            outside.device, known, outside.loading, self.directory.announce, rehearsal
        )
        self.survey = Survey(clock, settings, send, neighbours, self.directory.announce)
        self.gauge = Gauge(outside.device, self.holdings.model, clock, self.directory.announce)
        self.worker = Worker(
            me,
            self.holdings,
            outside.compute,
            clock,
            settings,
            self.peers,
            rules,
            self.gauge.took,
            self.allowance,
        )
        self._make_givers(outside, known.values())
        self.owner = Owner(me, self.directory, clock, settings, outside.chance, send, rules)
        self._make_movers(outside)

    async def run(self) -> None:
        """Run all roles until cancelled; connections are closed on the way out."""
        address = await self.peers.listen()
        try:
            async with asyncio.TaskGroup() as roles:
                roles.create_task(self.peers.run())
                roles.create_task(self.worker.run())
                roles.create_task(self.owner.run())
                roles.create_task(self.owner.follow())
                roles.create_task(self.mover.run())
                roles.create_task(self.replanner.run())
                roles.create_task(self.directory.run())
                roles.create_task(self.survey.run())
                roles.create_task(self.seeder.run())
                self.directory.start(address)
                self._started.set()
        finally:
            await self.peers.close()

    async def started(self) -> None:
        """Return once we can be reached."""
        await self._started.wait()

    async def hold(self, model: Model, span: Span) -> None:
        """Load a span and tell the swarm; see Holdings.hold for what is raised."""
        await self.holdings.hold(model.id, span)

    def add(self, model: Model) -> None:
        """Know one more model, and give its pieces to who asks."""
        self.kernels = self.kernels or model.profile.kernels
        if model.shelf is not None:
            self.seeder.offer(model.shelf)
        self.holdings.add(model)

    def limit(self, upload_bytes_per_s: float, share: float) -> None:
        """Send no more bytes a second, and compute for no more than this share of the time."""
        self.allowance.upload_bytes_per_s, self.allowance.share = upload_bytes_per_s, share
        self.gauge.share = share

    def pause(self, why: Pause, *, finishes: bool = False) -> None:
        """Give nothing to others, and say so, until `resume`; what this peer asks for goes on.

        With `finishes` sessions under way are still worked on here, else others stand in.
        """
        self.paused = why
        self.directory.announce()  # first, so that owners look for stand-ins elsewhere
        told = f"peer {short(self.peer)} gives nothing now: {TOLD[why]}"
        paused = PeerPaused(f"{told}; let another device join")
        self.worker.pause(paused, finishes=finishes)
        self.seeder.pause(paused)

    def resume(self) -> None:
        """Give again, and say so."""
        self.paused = ""
        self.worker.resume()
        self.seeder.resume()
        self.directory.announce()

    def woke(self, unseen_s: float) -> None:
        """The machine slept, `unseen_s` of it while our clock stood still: begin anew with others.

        Every connection is made again, and sessions whose owners were not heard of for their
        lease, the sleep counted, are freed; of what is left the owners judge by its digest.
        """
        self.worker.slept(unseen_s)
        self.peers.redial()
        self.directory.announce()

    def follow(self, followed: Followed) -> None:
        """Take part in placing a model's layers anew where that pays."""
        self.mover.follow(followed)
        self.replanner.follow(followed)
        self.directory.announce()

    def message(self, source: PeerId, message: Message, done: Callable[[], None]) -> None:
        """Give a message to the role it is for."""
        match message:
            case SessionOpen() | Rewire() | Step() | Replay() | Renew() | SessionClose():
                self.worker.receive(source, message, done)
            case Ready() | Refused() | Result() | Gap() | Replayed() | LinkLost() | Beat():
                self.owner.receive(source, message)
            case Announce():
                self.directory.receive(source, message)
            case Probe() | Probed():
                self.survey.receive(source, message)
            case AskMove():
                self.mover.receive(source, message)
            case NotMoved():
                self.replanner.receive(source, message)
            case AskPieces() | AskBlock():
                self.seeder.receive(source, message)
            case ManifestTold() | PiecesHad() | Block() | NotGiven():
                self.fetcher.receive(source, message)
            case Hello() | Ack() | Credit() | Goodbye():
                pass  # the stream keeps these to itself
            case _:
                assert_never(message)

    def connected(self, peer: PeerId, lane: Lane) -> None:
        """A connection is open."""
        if lane == "bulk":
            self.directory.connected(peer)

    def link_lost(self, peer: PeerId, lane: Lane, loss: Loss) -> None:
        """What was sent to `peer` may not have arrived."""
        if loss == "closed":
            self.directory.lost(peer)
        if lane == "bulk" and loss == "closed":
            self.seeder.link_lost(peer)
            self.fetcher.link_lost(peer)
        is_watched = loss == "closed" or self._rules.watch_confirmations
        if lane == "steps" and is_watched:
            self.worker.link_lost(peer)
            self.owner.link_lost(peer, loss)

    def _make_givers(self, outside: Outside, models: Iterable[Model]) -> None:
        self.seeder = Seeder(outside.disk, self.peers.send, self.allowance)
        for model in models:
            if model.shelf is not None:
                self.seeder.offer(model.shelf)
        self.fetcher = Fetcher(
            self.peer, self.directory, outside.disk, outside.clock, self.settings, self.peers.send
        )

    def _make_movers(self, outside: Outside) -> None:
        self.mover = Mover(
            self.peer,
            outside.device.memory_bytes,
            self.holdings,
            self.worker.memories,
            self.directory,
            outside.clock,
            self.settings,
            self.peers.send,
        )
        self.replanner = Replanner(
            self.peer,
            self.holdings.model,
            self.directory,
            outside.disk,
            outside.clock,
            self.settings,
            self.peers.send,
        )

    def _about(self) -> About:
        return About(
            self.gauge.device,
            self.kernels,
            self.holdings.draining() if self.paused else self.holdings.holdings(),
            self.holdings.room_bytes(),
            self.survey.links,
            self.paused,
            self.mover.models,
            self.name,
        )
