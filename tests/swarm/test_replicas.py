"""Many sessions over replicas on virtual time: they spread, and N replicas give nearly N times."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from hash_swarm import MODEL, SPEC
from manyhands.domain.span import even_cuts
from manyhands.domain.work import Sampling
from manyhands.net.memory import Path
from manyhands.node.generate import speak
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.virtual_loop import run_virtual

OWNER = 0
TOKENS = 40
SESSIONS_EACH = 4
PROMPT = tuple(range(1, 17))


def total(members, sessions, *, together=True):
    """Tokens a virtual second of all sessions, and how many went each way."""

    async def talk(fleet, number):
        owner, prompt = fleet.nodes[OWNER].owner, (number % 64, *PROMPT)
        session = await owner.open(MODEL, Sampling(seed=number), len(prompt), len(prompt) + TOKENS)
        ways[session.ring.route.peers()] += 1
        async for _ in speak(session, prompt, TOKENS):
            pass
        owner.close(session)

    async def main():
        fleet = Fleet(1, MODEL, (Member(can_load=False), *members), path=Path(latency_s=0.0005))
        async with fleet:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            async with asyncio.TaskGroup() as tasks:
                for number in range(sessions):
                    tasks.create_task(talk(fleet, number))
                    if not together:
                        await asyncio.sleep(0.003)
            return sessions * TOKENS / (loop.time() - began_s)

    ways = Counter()
    return run_virtual(main), ways


def replicas(count, stages=1):
    return [
        Member((span,), can_load=False)
        for _ in range(count)
        for span in even_cuts(len(SPEC.layers), stages)
    ]


@pytest.mark.parametrize("together", [True, False])
def test_n_replicas_give_nearly_n_times_the_tokens_of_one(together):
    one, _ = total(replicas(1), SESSIONS_EACH, together=together)
    for count in (2, 4, 8):
        many, ways = total(replicas(count), count * SESSIONS_EACH, together=together)
        assert sorted(ways.values()) == [SESSIONS_EACH] * count
        assert many >= 0.9 * count * one


def test_replicas_of_a_pipeline_share_sessions_as_well():
    one, _ = total(replicas(1, stages=2), SESSIONS_EACH)
    two, ways = total(replicas(2, stages=2), 2 * SESSIONS_EACH)
    assert sum(ways.values()) == 2 * SESSIONS_EACH
    assert two >= 1.8 * one


def test_a_beginning_that_all_share_is_computed_once_at_each_replica():
    beginning = tuple(number % 64 for number in range(256))

    async def main():
        fleet = Fleet(1, MODEL, (Member(can_load=False), *replicas(2)))
        async with fleet:
            owner, opened = fleet.nodes[OWNER].owner, []
            loop = asyncio.get_running_loop()
            for number in range(8):
                prompt, began_s = (*beginning, number), loop.time()
                limit = len(prompt) + TOKENS
                session = await owner.open(MODEL, Sampling(), len(prompt), limit, prompt=prompt)
                async for _ in speak(session, prompt, 2, held=session.length):
                    pass
                peer = fleet.number(session.ring.route.peers()[0])
                opened.append((peer, loop.time() - began_s))
            return opened

    opened = run_virtual(main)
    computed = [peer for peer, took_s in opened if took_s > 1.0]  # 256 tokens take two seconds
    assert sorted(computed) == [1, 2]
    assert sorted(Counter(peer for peer, _ in opened).values()) == [4, 4]


def test_queues_are_counted_where_a_route_is_chosen_and_not_at_each_step():
    counted = []

    def counting(among):
        def queued(swarm):
            counted.append(swarm.version)
            return among(swarm)

        return queued

    async def main():
        async with Fleet(1, MODEL, (Member(can_load=False), *replicas(2))) as fleet:
            owner = fleet.nodes[OWNER].owner
            sessions = [await owner.open(MODEL, Sampling(), len(PROMPT)) for _ in range(4)]
            for session in sessions:
                session.ring.among = counting(session.ring.among)
                async for _ in speak(session, PROMPT, 8):
                    pass

    run_virtual(main)
    assert not counted
