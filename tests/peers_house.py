"""Running Peers over links in memory, each with a listener that writes down what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import random

from manyhands.domain.messages import Announce, Beat
from manyhands.domain.settings import Settings
from manyhands.domain.work import Step
from manyhands.errors import ProtocolError
from manyhands.net.memory import MemoryNetwork, Path
from manyhands.node.peers import Peers
from manyhands.sim.virtual_loop import run_virtual
from manyhands.wire.frame import FrameReader
from manyhands.wire.schema import decode
from node_cases import SESSION
from transport_conformance import ANNA, BEN

SETTINGS = Settings(step_credits=4)
SLOW = Path(latency_s=0.01)


def beat(number: int) -> Beat:
    return Beat(SESSION, 1, 0, number, 0.0)


def announce() -> Announce:
    return Announce(())


class Heard:
    """A listener that writes down what it hears; steps are worked off at once, or kept."""

    def __init__(self, keeps_steps: bool) -> None:
        self.keeps_steps = keeps_steps
        self.messages: list[tuple[str, object]] = []
        self.kept = []
        self.opened: list[tuple[str, str]] = []
        self.lost: list[tuple[str, str, str]] = []
        self._something = asyncio.Event()

    def message(self, source, message, done) -> None:
        self.messages.append((source, message))
        if self.keeps_steps and isinstance(message, Step):
            self.kept.append(done)
        else:
            done()
        self._something.set()

    def connected(self, peer, lane) -> None:
        self.opened.append((peer, lane))
        self._something.set()

    def link_lost(self, peer, lane, loss) -> None:
        self.lost.append((peer, lane, loss))
        self._something.set()

    def numbers(self) -> list[int]:
        """What beats and steps were numbered, in order of arrival."""
        return [getattr(m, "finished", getattr(m, "sequence", None)) for _, m in self.messages]

    async def until(self, condition) -> None:
        """Return once `condition(self)` is true; it is a TimeoutError if it never gets so."""
        async with asyncio.timeout(60):
            while not condition(self):
                self._something.clear()
                await self._something.wait()


class House:
    """Some running Peers on one network: `self[ANNA].send(...)`, `self.heard[BEN]`."""

    def __init__(self, names=(ANNA, BEN), path=SLOW, settings=SETTINGS, keeps_steps=False) -> None:
        self.network = MemoryNetwork(random.Random(3), path)
        self.names, self.settings, self.keeps_steps = names, settings, keeps_steps
        self.heard: dict[str, Heard] = {}
        self.frames: list[tuple[str, str, object]] = []
        self.slept_s = 0.0  # how far the clocks of all went on while nothing could run
        self.network.observer = self._observe
        self._peers: dict[str, Peers] = {}
        self._tasks = asyncio.TaskGroup()
        self._running: dict[str, asyncio.Task[None]] = {}

    def __getitem__(self, name) -> Peers:
        return self._peers[name]

    async def __aenter__(self) -> House:
        await self._tasks.__aenter__()
        for name in self.names:
            await self.start(name)
        return self

    async def __aexit__(self, *error) -> None:
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(*error)

    async def start(self, name) -> None:
        """Start a peer, or start it anew after `kill`."""
        self.heard[name] = Heard(self.keeps_steps)
        loop = asyncio.get_running_loop()

        def clock() -> float:
            return loop.time() + self.slept_s

        transport = self.network.transport(name)
        peers = Peers(name, transport, clock, self.settings, self._address, self.heard[name])
        self._peers[name] = peers
        await peers.listen()
        self._running[name] = self._tasks.create_task(peers.run())
        await asyncio.sleep(0)

    def kill(self, name) -> None:
        self.network.reset(name)
        self._running.pop(name).cancel()

    def sent(self, kind: type) -> list:
        """(source, target) of every frame of a kind."""
        return [frame[:2] for frame in self.frames if type(frame[2]) is kind]

    def _address(self, peer):
        return f"memory:{peer}" if peer in self.names else None

    def _observe(self, source, target, data) -> None:
        for frame in FrameReader().feed(data):
            with contextlib.suppress(ProtocolError):  # garbage that a test sends on purpose
                self.frames.append((source, target, decode(frame)))


def in_house(test, **options) -> None:
    async def main():
        async with House(**options) as house:
            await test(house)

    run_virtual(main)
