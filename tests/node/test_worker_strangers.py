"""What strangers and broken peers may send a worker: nothing of it harms others' sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manyhands.domain.messages import Ready, Refused, Replay, Rewire, SessionClose
from manyhands.domain.work import Route
from node_cases import (
    ALONE,
    OTHER,
    OWNER,
    ROUTE,
    SESSION,
    STRANGER,
    opening,
    step,
    true_tokens,
)
from worker_bench import on_bench


def test_only_the_owner_may_rewire_replay_close_or_open_anew():
    async def test(bench):
        await bench.opened(opening())
        for message in (
            Rewire(SESSION, 1, ALONE, 0, 0),
            Replay(SESSION, 1, 0, 1, 0, 0, 8, 0, 0),
            SessionClose(SESSION),
            opening(owner=STRANGER),
            opening(1, session=OTHER),  # and nobody opens in another's name
        ):
            bench.receive(STRANGER, message)
        await bench.settle()
        refused = bench.links.of(Refused, to=STRANGER)
        assert [one.code for one in refused] == ["protocol"] * 4
        assert bench.links.of(Refused, to=OWNER) == bench.links.of(Ready) == []
        bench.receive(OWNER, step(0, 0, [1]))
        await bench.settle()
        assert len(bench.passed_on()) == 1  # the session is as it was

    on_bench(test)


@pytest.mark.xfail(strict=True, reason="IndexError or ValueError ends Worker.run, so the node")
@pytest.mark.parametrize(
    "message",
    [
        replace(opening(), route=Route(())),
        replace(opening(), stage=9),
        Rewire(SESSION, 2, ROUTE, 9, 0),
        Replay(SESSION, 1, 0, 1, 0, 1, 0, 0, 0),
    ],
    ids=["an empty route", "a stage beyond the route", "rewired beyond", "chunks of nothing"],
)
def test_a_message_that_makes_no_sense_does_not_end_the_worker(message):
    async def test(bench):
        await bench.opened(opening())
        bench.receive(OWNER, step(0, 0, [1]), message)
        await bench.settle()
        bench.receive(OWNER, opening(session=OTHER), step(0, 0, [1], session=OTHER))
        await bench.settle()
        assert any(one.session == OTHER for one in bench.passed_on())

    on_bench(test)


@pytest.mark.xfail(strict=True, reason="Worker.receive announces an epoch unasked whose it is")
def test_a_stranger_cannot_stop_a_session_by_announcing_a_later_epoch():
    async def test(bench):
        await bench.opened()
        bench.receive(STRANGER, Rewire(SESSION, 99, ALONE, 0, 0))
        await bench.settle()
        bench.receive(OWNER, step(0, 0, [1], ALONE))
        await bench.settle()
        assert bench.tokens() == true_tokens([1])

    on_bench(test)


@pytest.mark.xfail(strict=True, reason="Worker._open does not compare the owners")
def test_a_stranger_cannot_fork_the_memory_of_anothers_session():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE))
        await bench.settle()
        theft = opening(
            route=ALONE, session=OTHER, owner=STRANGER, parent=SESSION, parent_position=2
        )
        bench.receive(STRANGER, theft)
        await bench.settle()
        assert bench.refusal() == "session_unknown"

    on_bench(test)
