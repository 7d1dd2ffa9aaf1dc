"""Links are measured as they are, told to everybody, measured anew, and hold nobody up."""

from __future__ import annotations

import asyncio

import pytest

from hash_swarm import MODEL
from manyhands.domain.messages import Probed
from manyhands.domain.settings import Settings
from manyhands.net.memory import Path
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.virtual_loop import run_virtual

SLOW = Path(latency_s=0.02, rate_bytes_per_s=10e6)
EVERY_S = 30.0


def with_three(test, **settings):
    async def main():
        chosen = Settings(survey_every_s=EVERY_S, **settings)
        async with Fleet(1, MODEL, [Member()] * 3, settings=chosen, path=SLOW) as fleet:
            await test(fleet)

    run_virtual(main)


def link(fleet, seen_by, source, target):
    ends = fleet.peer(source), fleet.peer(target)
    return fleet.nodes[seen_by].directory.swarm.links.get(ends)


def test_everybody_knows_every_link_as_it_is():
    async def test(fleet):
        await asyncio.sleep(15)
        for seen_by in range(3):
            for source, target in ((0, 1), (1, 0), (1, 2), (2, 0)):
                found = link(fleet, seen_by, source, target)
                assert found.latency_s == pytest.approx(0.02, rel=0.1)
                assert found.rate_bytes_per_s == pytest.approx(10e6, rel=0.1)

    with_three(test)


def test_a_link_that_changed_is_measured_anew_and_told():
    async def test(fleet):
        await asyncio.sleep(15)
        fleet.network.set_path(fleet.peer(0), fleet.peer(1), Path(0.06, 2e6))
        await asyncio.sleep(EVERY_S + 15)
        found = link(fleet, 2, 0, 1)
        assert found.latency_s == pytest.approx(0.04, rel=0.1)  # half of there and back
        assert found.rate_bytes_per_s == pytest.approx(2e6, rel=0.1)
        assert link(fleet, 2, 1, 2).rate_bytes_per_s == pytest.approx(10e6, rel=0.1)

    with_three(test)


def test_a_neighbour_that_never_answers_keeps_nobody_else_from_being_measured():
    async def test(fleet):
        fleet.nodes[1].survey.receive = lambda _source, _message: None
        await asyncio.sleep(30)
        assert link(fleet, 0, 0, 1) is None
        assert link(fleet, 0, 2, 0) is not None

    with_three(test, dial_deadline_s=2.0)


def test_nobody_answers_for_another():
    async def test(fleet):
        liar = fleet.nodes[2]
        for _ in range(3000):  # every number there may be, again and again
            await asyncio.sleep(0.005)
            for number in range(1, 16):
                fleet.nodes[0].survey.receive(liar.peer, Probed(number))
        found = link(fleet, 0, 0, 1)
        assert found.latency_s == pytest.approx(0.02, rel=0.1)
        assert found.rate_bytes_per_s == pytest.approx(10e6, rel=0.1)

    with_three(test)


def test_with_an_interval_of_zero_nobody_is_asked():
    async def main():
        chosen = Settings(survey_every_s=0.0)
        async with Fleet(1, MODEL, [Member()] * 2, settings=chosen, path=SLOW) as fleet:
            await asyncio.sleep(15)
            assert not fleet.nodes[0].directory.swarm.links

    run_virtual(main)
