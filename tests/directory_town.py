"""Directories joined by slow links on virtual time, and records true, old and made up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from manyhands.domain.messages import Announce, SignedRecord
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import Holding, PeerRecord
from manyhands.node.directory import About, Directory
from manyhands.sim.virtual_loop import run_virtual
from manyhands.trust.signature import KeyPair, sign_record
from manyhands.wire.schema import encode
from node_cases import DEVICE

SETTINGS = Settings()
KEYS = tuple(KeyPair.from_seed(bytes([number]) * 32) for number in range(10, 14))
NAMES = tuple(keys.peer for keys in KEYS)
DELAY_S = 0.01


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Town:
    """Directories joined by `pairs` of neighbours; every announcement takes a while."""

    def __init__(self, count: int, pairs: tuple[tuple[int, int], ...]) -> None:
        self.pairs = set(pairs)
        self.deaf: set[int] = set()
        self.sent: list[tuple[int, int, Announce]] = []
        self.holdings: list[tuple[Holding, ...]] = [()] * count
        self.room_bytes = [1000] * count
        self.strangers: list[str] = []
        self.directories = [self._directory(number) for number in range(count)]

    def __getitem__(self, number: int) -> Directory:
        return self.directories[number]

    def known(self, number: int) -> list[int]:
        """Whom a directory knows."""
        return sorted(NAMES.index(peer) for peer in self[number].swarm.peers)

    def record(self, number: int, of: int):
        return self[number].swarm.peers[NAMES[of]]

    def _directory(self, number: int) -> Directory:
        def neighbours():
            there = [b if a == number else a for a, b in self.pairs if number in (a, b)]
            return tuple(NAMES[other] for other in sorted(there))

        def send(peer, announce):
            encode(announce)  # a message that cannot travel is refused, as Peers does
            if peer not in NAMES:
                self.strangers.append(peer)
                return
            other = NAMES.index(peer)
            self.sent.append((number, other, announce))
            is_linked = {(number, other), (other, number)} & self.pairs
            if is_linked and not self.deaf & {number, other}:
                loop = asyncio.get_running_loop()
                loop.call_later(DELAY_S, self[other].receive, NAMES[number], announce)

        def describe():
            return About(DEVICE, "hash", self.holdings[number], self.room_bytes[number])

        return Directory(KEYS[number], now_s, SETTINGS, describe, send, neighbours)


def in_town(count: int, pairs, test) -> None:
    async def main():
        town = Town(count, pairs)
        for number in range(count):
            town[number].start(f"memory:{NAMES[number]}")
        await asyncio.sleep(1)
        await test(town)

    run_virtual(main)


CHAIN = ((0, 1), (1, 2), (2, 3))


def signed(number: int, sequence: int, life_s: float = 20.0, **changes) -> SignedRecord:
    """A record of a peer, newer or older as wanted."""
    about = Town(4, ())[number]
    about.start("elsewhere")
    record = replace(
        about.swarm.peers[NAMES[number]],
        sequence=sequence,
        expires_s=now_s() + life_s,
        **changes,
    )
    return sign_record(KEYS[number], record)


async def live(town: Town, seconds: float, numbers=(0, 1, 2, 3)) -> None:
    """Let directories run for a while."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(town[number].run()) for number in numbers]
        await asyncio.sleep(seconds)
        for task in running:
            task.cancel()


def made_up(count: int, life_s: float = 20.0, address: str = "x") -> list[SignedRecord]:
    """Records of peers that somebody invented, each a little longer-lived than the one before."""
    records = []
    for number in range(count):
        keys = KeyPair.from_seed(number.to_bytes(32, "big"))
        expires_s = now_s() + life_s + number * 1e-3
        records.append(sign_record(keys, PeerRecord(keys.peer, 1, expires_s, address, DEVICE)))
    return records


def tell(town: Town, records: list[SignedRecord], piece: int = 500) -> None:
    """Peer 1 tells peer 0."""
    for first in range(0, len(records), piece):
        town[0].receive(NAMES[1], Announce(tuple(records[first : first + piece])))


def peers_of(records: Iterable[SignedRecord]) -> set[str]:
    return {one.record.peer for one in records}
