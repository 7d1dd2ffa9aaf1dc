"""Whole nodes in one process, over real sockets with TLS and compute threads: the same text."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import UTC, datetime

from hash_swarm import MODEL
from manyhands.domain.settings import Settings
from manyhands.domain.span import even_cuts
from manyhands.engine.compute import ComputeThread
from manyhands.net.tcp import TcpTransport
from manyhands.node.answer import Answer, Request
from manyhands.node.app import Node, Outside
from manyhands.sim.fleet import DEVICE
from manyhands.sim.scenario import Scenario, truth
from manyhands.trust.signature import KeyPair
from tls_cases import member

TOKENS = 40
PROMPT = (1, 2, 3, 4)
# a slow machine is no silent peer; a peer whose links broke is heard of again at the next record
SETTINGS = Settings(silent_after_s=5.0, record_every_s=0.25)
TRUTH = truth(Scenario(seed=0, tokens=TOKENS, prompt=PROMPT), MODEL)


class TcpSwarm:
    """`count` nodes; the first holds nothing and owns the sessions, the last is a spare."""

    def __init__(self, count: int) -> None:
        self.keys = [KeyPair.from_seed(bytes([number + 1]) * 32) for number in range(count)]
        self.transports = [TcpTransport(member(keys)) for keys in self.keys]
        self._threads = [ComputeThread() for _ in range(3 * count)]
        self.nodes = [self._node(number) for number in range(count)]
        self.running: list[asyncio.Task[None]] = []

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Everybody knows the first, and through it the others."""
        for node in self.nodes:
            self.running.append(tasks.create_task(node.run()))
            await node.started()
        first = self.nodes[0]
        address = first.directory.address_of(first.peer)
        for node in self.nodes[1:]:
            node.directory.join(first.peer, address)
        stages = self.nodes[1:-1]
        cuts = even_cuts(len(MODEL.spec.layers), len(stages))
        for node, span in zip(stages, cuts, strict=True):
            await node.hold(MODEL, span)
        while not self._is_known({node.peer for node in stages}):
            await first.directory.changed()

    def kill(self, number: int) -> None:
        """As SIGKILL: its connections break, its memory is gone."""
        self.transports[number].abort()
        self.running[number].cancel()

    def end(self) -> None:
        for task in self.running:
            task.cancel()
        for thread in self._threads:
            thread.close()

    def _is_known(self, stages: set[str]) -> bool:
        """The owner knows everybody, and what the stages hold."""
        known = self.nodes[0].directory.swarm.peers
        ready = {
            peer
            for peer, record in known.items()
            if any(held.state == "ready" for held in record.holdings)
        }
        return len(known) == len(self.nodes) and stages <= ready

    def _node(self, number: int) -> Node:
        outside = Outside(
            keys=self.keys[number],
            transport=self.transports[number],
            compute=self._threads[3 * number],
            loading=self._threads[3 * number + 1],
            disk=self._threads[3 * number + 2],
            clock=asyncio.get_running_loop().time,
            wall_clock=lambda: datetime.now(UTC).timestamp(),
            chance=random.Random(number),
            device=DEVICE,
        )
        return Node(outside, [MODEL] if number else [], SETTINGS)


@contextlib.asynccontextmanager
async def swarm(count: int):
    made = TcpSwarm(count)
    async with asyncio.TaskGroup() as tasks:
        try:
            await made.start(tasks)
            yield made
        finally:
            made.end()


def asked(made: TcpSwarm) -> Answer:
    return Answer(made.nodes[0].owner, MODEL, Request(PROMPT, TOKENS), None)


async def test_an_answer_over_sockets_is_the_text_of_one_engine():
    async with swarm(4) as made:
        answer = asked(made)
        async for _ in answer.pieces():
            pass
        assert tuple(token.id for token in answer.tokens) == TRUTH
        assert answer.finish == "length"


async def test_the_text_is_the_same_when_a_node_is_killed_in_mid_answer():
    for victim in (1, 2):
        async with swarm(4) as made:
            answer = asked(made)
            async for _ in answer.pieces():
                if len(answer.tokens) == TOKENS // 2:
                    made.kill(victim)
            assert tuple(token.id for token in answer.tokens) == TRUTH
            assert len(answer.recovered_s) >= 1


async def test_the_text_is_the_same_when_every_connection_breaks_in_mid_answer():
    async with swarm(4) as made:
        answer = asked(made)
        async for _ in answer.pieces():
            if len(answer.tokens) == TOKENS // 2:
                for transport in made.transports[1:]:
                    for connection in tuple(transport._connections):
                        connection.abort()
        assert tuple(token.id for token in answer.tokens) == TRUTH
        assert len(answer.recovered_s) >= 1
