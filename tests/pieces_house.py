"""Nodes that give and fetch pieces, on links in memory and virtual time: for tests of both."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path as FilePath

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId
from manyhands.domain.settings import Settings
from manyhands.net.memory import MemoryNetwork, Path
from manyhands.node.app import Node, Outside
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.fetched import FetchedFolder
from manyhands.store.pieces import WholeFolder
from manyhands.trust.signature import KeyPair

DEVICE = Device("virtual", 1 << 30, 10e9, 1e11)
LAN = Path(latency_s=0.0005, rate_bytes_per_s=125e6)
PIECE_BYTES = 4096


class DiskOfTime(VirtualCompute):
    """A disk on which every piece of work takes a tenth of a millisecond."""

    async def run(self, work, cost_s):
        return await super().run(work, cost_s or 1e-4)


class Liar:
    """A shelf that gives some pieces with one bit flipped."""

    def __init__(self, shelf: WholeFolder, bits: dict[int, int]) -> None:
        self._shelf, self._bits = shelf, bits

    def __getattr__(self, name):
        return getattr(self._shelf, name)

    def read(self, number, first, last):
        data = bytearray(self._shelf.read(number, first, last))
        bit = self._bits.get(number)
        if bit is not None and first <= bit // 8 < last:
            data[bit // 8 - first] ^= 1 << bit % 8
        return bytes(data)


class PiecesHouse:
    """`nodes[0]` fetches, the others have the shelves they are made with."""

    def __init__(self, shelves, settings: Settings | None = None, path: Path = LAN) -> None:
        self.settings = settings or Settings(fetch_wait_s=20.0)
        self.network = MemoryNetwork(random.Random(5), path)
        self.keys = [KeyPair.from_seed(bytes([n + 1]) * 32) for n in range(len(shelves) + 1)]
        self.nodes = [self._node(number) for number in range(len(self.keys))]
        for node, shelf in zip(self.nodes[1:], shelves, strict=True):
            if shelf is not None:
                node.seeder.offer(shelf)
        self._tasks = asyncio.TaskGroup()
        self._running = {}

    async def __aenter__(self) -> PiecesHouse:
        await self._tasks.__aenter__()
        for number, node in enumerate(self.nodes):
            self._running[number] = self._tasks.create_task(node.run())
            await node.started()
            if number:
                self.nodes[0].directory.join(node.peer, f"memory:{node.peer}")
        while len(self.nodes[0].directory.swarm.peers) < len(self.nodes):
            await self.nodes[0].directory.changed()
        return self

    async def __aexit__(self, *error) -> None:
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(*error)

    @property
    def fetcher(self):
        return self.nodes[0].fetcher

    @property
    def given(self) -> list[int]:
        """Bytes that each giver has sent."""
        return [node.seeder.given_bytes for node in self.nodes[1:]]

    def kill(self, number: int) -> None:
        self.network.reset(self.nodes[number].peer)
        self._running.pop(number).cancel()

    async def created(self, folder: FilePath, model: ModelId) -> FetchedFolder:
        """The folder to fetch into, as the others' manifest says."""
        return FetchedFolder.create(folder, (await self.fetcher.manifest(model)).manifest)

    def _node(self, number: int) -> Node:
        keys, loop = self.keys[number], asyncio.get_running_loop()
        outside = Outside(
            keys=keys,
            transport=self.network.transport(keys.peer),
            compute=VirtualCompute(),
            loading=VirtualCompute(),
            disk=DiskOfTime(),
            clock=loop.time,
            wall_clock=loop.time,
            chance=random.Random(number),
            device=DEVICE,
        )
        return Node(outside, [], self.settings)


def whole(folder: FilePath, piece_bytes: int = PIECE_BYTES) -> WholeFolder:
    """A shelf of small pieces."""
    checkpoint = Checkpoint.open(folder)
    return WholeFolder(checkpoint, checkpoint.identity(), piece_bytes)


def in_pieces_house(test, shelves, **options) -> None:
    """Run `test(house)` on virtual time."""

    async def main():
        async with PiecesHouse(shelves, **options) as house:
            await test(house)

    run_virtual(main)
