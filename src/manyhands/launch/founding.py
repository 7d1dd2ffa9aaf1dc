"""A swarm run from this process: its founder's peer, the door for newcomers, and one to ask.

Joins node, door and home folder. Whatever the peer holds is decided by who calls `hold`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from manyhands.domain.admission import RunningModel
from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.errors import UserError
from manyhands.launch.joining import DoorAddress
from manyhands.launch.ports import is_free
from manyhands.net.discovery import SeenDoor, announce
from manyhands.net.door import Door
from manyhands.net.hosts import is_address, is_loopback
from manyhands.net.tls import Contexts
from manyhands.node.app import Node
from manyhands.node.founder import Founder, contacts_in
from manyhands.node.live import Listening, LivePeer, wall_clock
from manyhands.node.opened import Opened
from manyhands.node.speaker import Speaker
from manyhands.store.home import Home, new_serial
from manyhands.trust.certificate import Membership
from manyhands.trust.invite import fingerprint


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a founder listens, for peers and at its door; 0 is any free port.

    Another one is used for a port that nobody named and turns out to be taken.
    """

    host: str = "127.0.0.1"
    peers: int = 0
    door: int = 0
    public_host: str | None = None
    more_hosts: tuple[str, ...] = ()
    """Further addresses by which others reach this machine."""

    public_port: int | None = None
    """By which port others reach `peers`, where it is another."""

    is_peers_named: bool = True
    is_door_named: bool = True


class Founding:
    """Make it in the event loop, `run` it in a TaskGroup, then await `started()`.

    `holds` is False for an owner that only asks: it never takes layers, not even after a loss.
    """

    def __init__(
        self,
        home: Home,
        opened: Opened,
        device: Device,
        settings: Settings,
        ports: Ports,
        *,
        holds: bool = True,
    ) -> None:
        keys = home.keys()
        self.founder = Founder(home.authority(wall_clock()), keys, settings, wall_clock, new_serial)
        self.opened = opened if holds else replace(opened, model=replace(opened.model, stored=()))
        self.settings, self.device = settings, device
        self._ports = ports
        self._contexts = Contexts(self.founder.membership())
        self.peer = self._peer_at(ports.peers)
        self._door = self._door_at(ports.door)
        self._started = asyncio.Event()
        self.door = DoorAddress(ports.public_host or ports.host, 0)
        self.founder.name = socket.gethostname()
        self.founder.models = (_running(opened),)
        self.founder.contacts = lambda: contacts_in(self.node.directory.swarm, self.node.peer)
        self.founder.at_work = self._at_work
        self.speakers: tuple[Speaker, ...] = (self._speaker(self.opened),)

    @property
    def doors(self) -> tuple[DoorAddress, ...]:
        """All addresses of the door, the usual one first; ports are right after `started()`."""
        hosts = (self.door.host, *self._ports.more_hosts)
        return tuple(DoorAddress(host, self.door.port) for host in hosts)

    @property
    def node(self) -> Node:
        """Our peer's roles; another one until `started()`."""
        return self.peer.node

    async def run(self) -> None:
        """The peer and its door, until cancelled. Raises UserError for ports that are taken."""
        try:
            await self._run()
        except* UserError:
            ports = self._ports
            if ports.is_peers_named or is_free(ports.host, ports.peers) or self._started.is_set():
                raise
        # between the look at the port and its use somebody else was quicker
        self.peer = self._peer_at(0)
        await self._run()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            try:
                tasks.create_task(self.peer.run(self._renewed))
                await self.node.started()
                # only now: whoever comes in by the door is told our address
                self.door = DoorAddress(self.door.host, await self._opened_door())
                self._started.set()
                if not is_loopback(self.door.host):
                    await announce(self._seen_door)
                await asyncio.Event().wait()
            finally:
                await self._door.close()

    def _at_work(self, peer: PeerId) -> str | None:
        """Where a member works that we are connected with."""
        record = self.node.directory.swarm.peers.get(peer)
        linked = (*self.node.peers.connected("bulk"), *self.node.peers.connected("steps"))
        return record.address if record is not None and peer in linked else None

    def _seen_door(self) -> SeenDoor:
        about = self.founder.about()
        hosts = [door.host for door in self.doors]
        return SeenDoor(
            about.swarm,
            fingerprint(self.node.peer).hex(),
            about.name,
            about.protocol,
            tuple(host for host in hosts if is_address(host)),
            self.door.port,
        )

    async def _opened_door(self) -> int:
        try:
            return await self._door.open()
        except UserError:
            ports = self._ports
            if ports.is_door_named or is_free(ports.host, ports.door):
                raise
        self._door = self._door_at(0)
        return await self._door.open()

    def _peer_at(self, port: int) -> LivePeer:
        ports = self._ports
        return LivePeer(
            self.founder.membership(),
            (self.opened.model,),
            self.device,
            self.settings,
            Listening(ports.host, port, ports.public_host, ports.more_hosts, ports.public_port),
            self.opened.on_start,
        )

    def _door_at(self, port: int) -> Door:
        deadline_s = self.settings.dial_deadline_s
        return Door(
            self._contexts,
            self._ports.host,
            port,
            self.founder.decide,
            deadline_s,
            reception=self.founder,
        )

    async def started(self) -> None:
        """Return once others can join."""
        await self._started.wait()

    @property
    def speaker(self) -> Speaker:
        """Whoever asks for no model by name asks this one."""
        return self.speakers[0]

    async def add(self, opened: Opened) -> None:
        """Run one more model, of another name; nothing of it is loaded yet."""
        await self.peer.adopt(opened.model, opened.on_start)
        self.founder.models = (*self.founder.models, _running(opened))
        self.speakers = (*self.speakers, self._speaker(opened))

    def _speaker(self, opened: Opened) -> Speaker:
        return Speaker(opened, lambda: self.node.owner, lambda: datetime.now(UTC).astimezone())

    async def hold(self, span: Span, opened: Opened | None = None) -> None:
        """Load layers here, of the first model by default; see Node.hold for what is raised."""
        await self.node.hold((opened or self.opened).model, span)

    async def _renewed(self) -> Membership:
        membership = self.founder.membership()
        self._contexts.renew(membership)
        return membership


@contextlib.asynccontextmanager
async def found_swarm(
    home: Home,
    opened: Opened,
    device: Device,
    settings: Settings,
    ports: Ports,
    *,
    holds: bool = True,
) -> AsyncIterator[Founding]:
    """A Founding that runs while the context is open; its errors end the context."""
    founding = Founding(home, opened, device, settings, ports, holds=holds)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(founding.run())
        try:
            await founding.started()
            yield founding
        finally:
            running.cancel()


def _running(opened: Opened) -> RunningModel:
    engine, dtype, *_ = opened.model.profile.kernels.split("-")
    return RunningModel(ModelId(opened.model.id), opened.name, engine, dtype)
