"""Emulated links between processes of one machine: TCP passed on with delay, rate, loss and faults.

Every peer gets a *gate*, a port that others dial instead of its own; who dials is found out by the
process that the connection comes from, so each direction between two peers is a wire of its own.
Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import psutil

from manyhands.sim.shaping import Flow, Shape, Wire

ANYBODY = "*"
"""Stands for every peer, and for those who dial from processes that nobody named."""

IN_FLIGHT_BYTES = 4 << 20
"""On their way in one direction of a connection, at most: a receive window as systems have it."""

SLICE_S, LEAST_SLICE_BYTES, MOST_SLICE_BYTES = 0.0005, 4 << 10, 64 << 10
"""Bytes arrive together that leave within so long a time, so that connections share a wire."""

PASSING_S = 4e-5
"""About what reading, waking and writing cost here, part of the delay; measured on one machine."""

MOST_LATE_S = 0.0003
"""A sleep is cut short by no more: what is left of it is spent asking for the time."""

Direction = tuple[str, str]
"""Source and target."""


class Links:
    """All gates and the wires between them. Use within one event loop, in a TaskGroup of its own.

    A loop over `select` wakes within a tenth of a millisecond, one over `epoll` within one.
    """

    def __init__(self, tasks: asyncio.TaskGroup, chance: random.Random) -> None:
        self._tasks, self.chance = tasks, chance
        self._usual = Shape()
        self._shapes: dict[Direction, Shape] = {}
        self._wires: dict[Direction, Wire] = {}
        self._blocked: set[Direction] = set()
        self._changed = asyncio.Event()
        self._processes: dict[str, int] = {}
        self.waking = _Waking()
        self._gates: list[asyncio.Task[None]] = []
        self._open: dict[asyncio.Task[Any], Direction] = {}

    def gate(self, name: str, target_port: int, host: str = "127.0.0.1") -> int:
        """A port here that leads to `name`, which listens at `target_port` (or soon will)."""
        listening = socket.create_server((host, 0))
        listening.setblocking(False)
        taking = self._tasks.create_task(self._take(listening, name, (host, target_port)))
        self._gates.append(taking)
        return int(listening.getsockname()[1])

    def know(self, name: str, pid: int) -> None:
        """What this process dials is from `name` from now on."""
        self._processes[name] = pid

    def shape(self, shape: Shape, source: str = ANYBODY, target: str = ANYBODY) -> None:
        """Give one direction its shape, or all those that have none of their own."""
        if (source, target) == (ANYBODY, ANYBODY):
            self._usual = shape
        else:
            self._shapes[source, target] = shape
        now_s = asyncio.get_running_loop().time()
        for direction, wire in self._wires.items():
            wire.reshape(self._shape_of(direction), now_s)

    def block(self, source: str, target: str) -> None:
        """Bytes from `source` to `target` stop; connections stay open, and nobody is told."""
        self._blocked.add((source, target))

    def unblock(self, source: str = ANYBODY, target: str = ANYBODY) -> None:
        """What was stopped goes on, and arrives late; by default everywhere."""
        self._blocked = {one for one in self._blocked if not _covers((source, target), one)}
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self, one: str, other: str = ANYBODY) -> int:
        """Reset every connection between two; how many there were. New ones may be made."""
        ended = [
            task
            for task, ends in self._open.items()
            if _covers((one, other), ends) or _covers((other, one), ends)
        ]
        for task in ended:
            task.cancel()
        return len(ended)

    def close(self) -> None:
        """Close all gates, reset all connections."""
        for gate in self._gates:
            gate.cancel()
        self.cut(ANYBODY)

    def wire(self, source: str, target: str) -> Wire:
        """The one from `source` to `target`."""
        direction = source, target
        if direction not in self._wires:
            self._wires[direction] = Wire(self._shape_of(direction))
        return self._wires[direction]

    async def passable(self, source: str, target: str) -> None:
        """Return once nothing stops bytes in this direction."""
        while any(_covers(one, (source, target)) for one in self._blocked):
            await self._changed.wait()

    def _shape_of(self, direction: Direction) -> Shape:
        source, target = direction
        for known in (direction, (source, ANYBODY), (ANYBODY, target)):
            if known in self._shapes:
                return self._shapes[known]
        return self._usual

    async def _take(self, listening: socket.socket, name: str, place: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                near, (_, port, *_) = await loop.sock_accept(listening)
                self._tasks.create_task(self._pass_on(near, port, name, place))

    async def _pass_on(
        self, near: socket.socket, port: int, name: str, place: tuple[str, int]
    ) -> None:
        """One connection, from its dial to its end."""
        far, has_ended = socket.socket(near.family, socket.SOCK_STREAM), False
        with near, far:
            for plug in (near, far):
                plug.setblocking(False)
                plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            source = await asyncio.to_thread(_who, dict(self._processes), port)
            task = cast("asyncio.Task[None]", asyncio.current_task())
            self._open[task] = source, name
            try:
                await self._greet(source, name)
                await asyncio.get_running_loop().sock_connect(far, place)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_Pump(self, near, far, (source, name)).run())
                    both.create_task(_Pump(self, far, near, (name, source)).run())
                has_ended = True
            except* OSError:  # reset by one side, or nobody listens there
                pass
            finally:
                del self._open[task]
                for plug in () if has_ended else (near, far):
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _greet(self, source: str, target: str) -> None:
        """The round trip in which TCP opens a connection."""
        for direction in ((source, target), (target, source)):
            await self.passable(*direction)
            await asyncio.sleep(self.wire(*direction).shape.latency_s)


class _Pump:
    """One direction of one connection, until its source ends.

    Raises OSError when that is reset, but not before the target would know.
    """

    def __init__(
        self, links: Links, source: socket.socket, target: socket.socket, direction: Direction
    ) -> None:
        self._links, self._source, self._target = links, source, target
        self._direction, self._wire = direction, links.wire(*direction)
        self._flow = Flow(self._wire, links.chance)
        self._under_way: deque[tuple[float, bytes | None]] = deque()
        self._size_bytes = 0
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Read, wait, deliver."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._deliver())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while (wait_s := self._flow.wait_s(loop.time())) > 0:  # noqa: ASYNC110 (by the clock)
                await asyncio.sleep(wait_s)
            while self._size_bytes >= IN_FLIGHT_BYTES:
                await self._next_move()
            try:
                data = await loop.sock_recv(self._source, self._slice_bytes())
            except OSError:
                data = None
            size_bytes = len(data or b"")
            self._under_way.append((self._flow.arrival_s(size_bytes, loop.time()), data))
            self._size_bytes += size_bytes
            self._moved.set()
            if not data:
                return

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._under_way:
                await self._next_move()
            arrival_s, data = self._under_way.popleft()
            await self._links.waking.until(arrival_s - PASSING_S)
            await self._links.passable(*self._direction)
            if data is None:
                raise ConnectionResetError
            if not data:
                self._target.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(self._target, data)
            self._size_bytes -= len(data)
            self._moved.set()

    async def _next_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _slice_bytes(self) -> int:
        size_bytes = self._wire.shape.rate_bytes_per_s * SLICE_S
        return int(min(max(size_bytes, LEAST_SLICE_BYTES), MOST_SLICE_BYTES))


class _Waking:
    """Sleeps by the clock: less long by as much as sleeps were too long lately, never too short."""

    def __init__(self) -> None:
        self._late_s = 0.0

    async def until(self, due_s: float) -> None:
        """Return at `due_s` of the loop's time, or soon after."""
        loop = asyncio.get_running_loop()
        while (left_s := due_s - loop.time()) > 0:
            if left_s <= self._late_s:
                await asyncio.sleep(0)
                continue
            sleep_s = left_s - self._late_s
            began_s = loop.time()
            await asyncio.sleep(sleep_s)
            late_s = loop.time() - began_s - sleep_s
            self._late_s = min(self._late_s + (late_s - self._late_s) / 8, MOST_LATE_S)


def _covers(pattern: Direction, direction: Direction) -> bool:
    return all(said in (ANYBODY, name) for said, name in zip(pattern, direction, strict=True))


def _who(processes: Mapping[str, int], port: int) -> str:
    """Whose process has a connection that comes from `port`."""
    for name, pid in processes.items():
        with contextlib.suppress(psutil.Error):  # it has ended, or may not be looked at
            if any(one.laddr.port == port for one in psutil.Process(pid).net_connections("tcp")):
                return name
    return ANYBODY
