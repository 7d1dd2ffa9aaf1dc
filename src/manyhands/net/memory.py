"""Links inside one process: the transport of tests, of `mh.load(peers=n)` and of virtual time.

Frames travel as bytes, in order, with the latency, rate and loss of their path. A lost frame is
sent again after a time-out, as TCP does, so it arrives late and holds up those behind it. Faults
can be put on: a path cut (frames vanish, nobody is told), a peer held (frames wait), a peer reset.
Knows nothing of messages; chance is an argument.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from manyhands.domain.ids import PeerId, short
from manyhands.errors import PeerLost, UserError
from manyhands.net.transport import Accept, Connection
from manyhands.wire.frame import Frame, FrameReader, encode

Observer = Callable[[PeerId, PeerId, bytes], None]
"""Sees (source, target, bytes) of every frame as it is sent: for traces and taps."""


@dataclass(frozen=True, slots=True)
class Path:
    """One direction between two peers. `loss` is the fraction of frames that must be sent again."""

    latency_s: float = 0.0
    rate_bytes_per_s: float = float("inf")
    loss: float = 0.0

    @property
    def resend_after_s(self) -> float:
        """Until a lost frame is sent again: TCP's least time-out, or four times the latency."""
        return max(0.2, 4 * self.latency_s)


class MemoryNetwork:
    """All peers of one process and the paths between them. Use within one event loop."""

    def __init__(self, chance: random.Random, path: Path | None = None) -> None:
        self.chance = chance
        self.observer: Observer | None = None
        self._path = path or Path()
        self._paths: dict[tuple[PeerId, PeerId], Path] = {}
        self._cut: set[tuple[PeerId, PeerId]] = set()
        self._held: set[PeerId] = set()
        self._waiting: list[tuple[MemoryConnection, bytes]] = []
        self._listening: dict[PeerId, Accept] = {}
        self._open: dict[MemoryConnection, None] = {}

    def transport(self, peer: PeerId) -> MemoryTransport:
        """The transport of one peer; its address is its own id."""
        return MemoryTransport(self, peer)

    def set_path(self, source: PeerId, target: PeerId, path: Path) -> None:
        """Give one direction its own latency, rate and loss."""
        self._paths[source, target] = path

    def path(self, source: PeerId, target: PeerId) -> Path:
        """The path in force from `source` to `target`."""
        return self._paths.get((source, target), self._path)

    def cut(self, source: PeerId, target: PeerId) -> None:
        """From now on frames from `source` to `target` vanish; neither side is told."""
        self._cut.add((source, target))

    def mend(self, source: PeerId, target: PeerId) -> None:
        """End a cut. Connections that lost frames by it are reset, as TCP's would time out."""
        self._cut.discard((source, target))
        for connection in list(self._open):
            ends = {connection.local, connection.remote}
            if connection.has_gap and {source, target} == ends:
                connection.reset()

    def is_cut(self, source: PeerId, target: PeerId) -> bool:
        """True while frames from `source` to `target` vanish."""
        return (source, target) in self._cut

    def hold(self, peer: PeerId) -> None:
        """Stop a peer as SIGSTOP would: all frames to and from it wait until `release`."""
        self._held.add(peer)

    def release(self, peer: PeerId) -> None:
        """Deliver everything that waited, late and in order."""
        self._held.discard(peer)
        waiting, self._waiting = self._waiting, []
        for connection, data in waiting:
            if not self.waits(connection, data):
                connection.arrive(data)

    def reset(self, peer: PeerId) -> None:
        """End every connection of a peer at once, as its killed process would."""
        self._listening.pop(peer, None)
        self._held.discard(peer)
        for connection in list(self._open):
            if peer in (connection.local, connection.remote):
                connection.reset()

    def waits(self, connection: MemoryConnection, data: bytes) -> bool:
        """Keep back a frame that arrives at `connection` if either end is held."""
        if connection.local in self._held or connection.remote in self._held:
            self._waiting.append((connection, data))
            return True
        return False

    def listen(self, peer: PeerId, accept: Accept) -> str:
        """Take connections for `peer`. Raises UserError when somebody does already."""
        if peer in self._listening:
            raise UserError(f"peer {short(peer)} listens already; close it first")
        self._listening[peer] = accept
        return f"memory:{peer}"

    def stop_listening(self, peer: PeerId, accept: Accept) -> None:
        """Take no more connections for `peer`, unless somebody else does that by now."""
        if self._listening.get(peer) is accept:
            del self._listening[peer]

    async def dial(self, source: PeerId, address: str, target: PeerId) -> MemoryConnection:
        """A new connection after a round trip. Raises PeerLost when nobody, or another, answers."""
        path, back = self.path(source, target), self.path(target, source)
        await asyncio.sleep(path.latency_s + back.latency_s)
        while self._is_silent(source, target):  # noqa: ASYNC110 (asks again as TCP would: by time)
            await asyncio.sleep(path.resend_after_s)
        accept = self._listening.get(target)
        if accept is None or address != f"memory:{target}":
            raise PeerLost(f"nobody answers as {short(target)} at {address[:24]}")
        here, there = (
            MemoryConnection(self, source, target),
            MemoryConnection(self, target, source),
        )
        here.other, there.other = there, here
        self._open[here] = self._open[there] = None
        accept(there)
        return here

    def _is_silent(self, source: PeerId, target: PeerId) -> bool:
        is_cut = self.is_cut(source, target) or self.is_cut(target, source)
        return is_cut or source in self._held or target in self._held

    def forget(self, connection: MemoryConnection) -> None:
        """A connection has ended."""
        self._open.pop(connection, None)


class MemoryConnection:
    """One end of a connection in memory."""

    def __init__(self, network: MemoryNetwork, local: PeerId, remote: PeerId) -> None:
        self.local, self._remote = local, remote
        self.other: MemoryConnection | None = None
        self.has_lost = False
        self._network = network
        self._reader = FrameReader()
        self._inbox: deque[Frame] = deque()
        self._under_way: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._is_closed = False
        self._free_at_s = 0.0
        self._last_arrival_s = 0.0

    @property
    def remote(self) -> PeerId:
        """The other side."""
        return self._remote

    @property
    def has_gap(self) -> bool:
        """True when a cut took frames, or the close, of either direction."""
        return self.has_lost or (self.other is not None and self.other.has_lost)

    @property
    def is_closed(self) -> bool:
        """True once nothing goes through any more."""
        return self._is_closed

    def send(self, frame: Frame) -> None:
        """Put a frame on the path; it arrives after the path's delays, in order."""
        if self._is_closed:
            return
        self._depart(b"".join(encode(frame)))

    def close(self) -> None:
        """Close after what was sent has arrived."""
        if not self._is_closed:
            self._depart(b"")
            self.end()

    def reset(self) -> None:
        """Both ends are closed at once."""
        self.end()
        if self.other is not None:
            self.other.end()

    async def receive(self) -> Frame:
        """The next frame; PeerLost once closed and empty."""
        while not self._inbox:
            if self._is_closed:
                raise PeerLost(f"the connection to {short(self._remote)} is closed")
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    def _depart(self, data: bytes) -> None:
        network = self._network
        if data and network.observer is not None:
            network.observer(self.local, self._remote, data)
        if network.is_cut(self.local, self._remote):
            self.has_lost = True
            return
        path, loop = network.path(self.local, self._remote), asyncio.get_running_loop()
        self._free_at_s = max(self._free_at_s, loop.time()) + len(data) / path.rate_bytes_per_s
        arrival_s = self._free_at_s + path.latency_s
        while path.loss and network.chance.random() < path.loss:
            arrival_s += path.resend_after_s
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        # timers due at the same instant fire in any order: what arrives is taken from the front
        self._under_way.append(data)
        loop.call_at(self._last_arrival_s, self._deliver)

    def _deliver(self) -> None:
        data = self._under_way.popleft()
        if self.other is not None and not self._network.waits(self.other, data):
            self.other.arrive(data)

    def arrive(self, data: bytes) -> None:
        """Bytes from the other end; none at all means that it closed."""
        if self._is_closed:
            return
        if not data:
            self.end()
            return
        self._inbox.extend(self._reader.feed(data))
        self._arrived.set()

    def end(self) -> None:
        """No more frames in either direction."""
        self._is_closed = True
        self._arrived.set()
        self._network.forget(self)


class MemoryTransport:
    """One peer's way into a MemoryNetwork."""

    def __init__(self, network: MemoryNetwork, peer: PeerId) -> None:
        self._network, self._peer = network, peer
        self._accept: Accept | None = None
        self._connections: list[MemoryConnection] = []

    async def listen(self, accept: Accept) -> str:
        """Take connections; the address is `memory:` and the peer's id."""

        def note(connection: Connection) -> None:
            if isinstance(connection, MemoryConnection):
                self._keep(connection)
            accept(connection)

        address = self._network.listen(self._peer, note)
        self._accept = note
        return address

    async def dial(self, address: str, peer: PeerId) -> MemoryConnection:
        """Connect to a peer of this process."""
        connection = await self._network.dial(self._peer, address, peer)
        self._keep(connection)
        return connection

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._accept is not None:
            self._network.stop_listening(self._peer, self._accept)
        for connection in self._connections:
            connection.close()

    def _keep(self, connection: MemoryConnection) -> None:
        self._connections = [one for one in self._connections if not one.is_closed]
        self._connections.append(connection)
