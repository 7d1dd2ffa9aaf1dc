"""Real Peers over real sockets with TLS: messages both ways, a reset, and going on after it."""

from __future__ import annotations

import asyncio
import contextlib

from manyhands.domain.settings import Settings
from manyhands.domain.work import Step
from manyhands.net.tcp import TcpTransport
from manyhands.node.peers import Peers
from node_cases import step
from peers_house import Heard, announce, beat
from tls_cases import OTHER_SWARM, SWARM, member
from transport_conformance import ANNA, BEN, KEYS

# silence is not what is tested here, and these machines may be slow
SETTINGS = Settings(silent_after_s=60.0, beat_every_s=0.05, step_credits=4)


class Street:
    """Running Peers, each with sockets of its own: `self[ANNA].send(...)`, `self.heard[BEN]`."""

    def __init__(self) -> None:
        self._transports: dict[str, TcpTransport] = {}
        self._peers: dict[str, Peers] = {}
        self._addresses: dict[str, str] = {}
        self.heard: dict[str, Heard] = {}
        self._running: list[asyncio.Task[None]] = []

    def __getitem__(self, name) -> Peers:
        return self._peers[name]

    async def start(self, keys, swarm, tasks) -> None:
        name, clock = keys.peer, asyncio.get_running_loop().time
        transport, self.heard[name] = TcpTransport(member(keys, swarm)), Heard(keeps_steps=False)
        peers = Peers(name, transport, clock, SETTINGS, self._addresses.get, self.heard[name])
        self._transports[name], self._peers[name] = transport, peers
        self._addresses[name] = await peers.listen()
        self._running.append(tasks.create_task(peers.run()))

    def reset(self, name) -> None:
        """All connections of a peer break; it goes on listening."""
        for connection in tuple(self._transports[name]._connections):
            connection.abort()

    async def close(self) -> None:
        for peers in self._peers.values():
            await peers.close()
        for task in self._running:
            task.cancel()


@contextlib.asynccontextmanager
async def street(swarms=(SWARM, SWARM)):
    made = Street()
    async with asyncio.TaskGroup() as tasks:
        for keys, swarm in zip(KEYS, swarms, strict=False):
            await made.start(keys, swarm, tasks)
        yield made
        await made.close()


async def test_messages_go_both_ways_in_order_on_one_connection_a_lane():
    async with street() as made:
        for number in range(20):
            made[ANNA].send(BEN, beat(number))
            made[ANNA].send(BEN, announce())
        await made.heard[BEN].until(lambda heard: len(heard.messages) == 40)
        made[BEN].send(ANNA, beat(99))
        await made.heard[ANNA].until(lambda heard: heard.messages)
        beats = [message for _, message in made.heard[BEN].messages if message != announce()]
        assert beats == [beat(number) for number in range(20)]
        assert made.heard[ANNA].messages == [(BEN, beat(99))]
        assert sorted(made.heard[BEN].opened) == [(ANNA, "bulk"), (ANNA, "steps")]


async def test_steps_flow_beyond_their_credits():
    async with street() as made:
        for number in range(50):
            made[ANNA].send(BEN, step(number, number, (1,)))
        await made.heard[BEN].until(lambda heard: len(heard.messages) == 50)
        assert made.heard[BEN].numbers() == list(range(50))
        assert {type(message) for _, message in made.heard[BEN].messages} == {Step}


async def test_dials_that_cross_keep_one_connection_and_lose_nothing():
    async with street() as made:
        for number in range(5):
            made[ANNA].send(BEN, beat(number))
            made[BEN].send(ANNA, beat(10 + number))
        await made.heard[BEN].until(lambda heard: len(heard.messages) == 5)
        await made.heard[ANNA].until(lambda heard: len(heard.messages) == 5)
        assert made.heard[BEN].numbers() == [0, 1, 2, 3, 4]
        assert made.heard[ANNA].numbers() == [10, 11, 12, 13, 14]
        assert made.heard[ANNA].lost == made.heard[BEN].lost == []


async def test_after_a_reset_both_sides_are_told_and_the_next_message_dials_anew():
    async with street() as made:
        made[ANNA].send(BEN, beat(0))
        await made.heard[BEN].until(lambda heard: heard.messages)
        made.reset(BEN)
        for name in (ANNA, BEN):
            await made.heard[name].until(lambda heard: heard.lost)
        assert made.heard[ANNA].lost == [(BEN, "steps", "closed")]
        made[ANNA].send(BEN, beat(1))
        made[BEN].send(ANNA, beat(2))
        await made.heard[BEN].until(lambda heard: len(heard.messages) == 2)
        await made.heard[ANNA].until(lambda heard: heard.messages)
        assert made.heard[BEN].numbers() == [0, 1]
        assert made.heard[ANNA].numbers() == [2]


async def test_peers_of_different_swarms_cannot_reach_each_other_and_are_told():
    async with street((SWARM, OTHER_SWARM)) as made:
        made[ANNA].send(BEN, beat(0))
        await made.heard[ANNA].until(lambda heard: heard.lost)
        assert made.heard[ANNA].lost == [(BEN, "steps", "closed")]
        assert made.heard[BEN].messages == made.heard[BEN].opened == []
