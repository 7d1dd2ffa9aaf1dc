"""What strangers and broken peers may send a worker: nothing of it harms others' sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manyhands.domain.ids import SessionId
from manyhands.domain.messages import Ready, Refused, Replay, Rewire, SessionClose
from manyhands.domain.span import Span
from manyhands.domain.work import Route, Stage, Want
from manyhands.errors import ProtocolError
from manyhands.sim.hash_engine import HashEngine, hash_spec
from node_cases import (
    ALONE,
    ANNA,
    BEN,
    LOWER,
    OTHER,
    OWNER,
    ROUTE,
    SESSION,
    STRANGER,
    UPPER,
    model,
    opening,
    step,
    true_tokens,
)
from worker_bench import on_bench

THIRD = SessionId("33" * 16)


def test_only_the_owner_may_rewire_replay_close_or_open_anew():
    async def test(bench):
        await bench.opened(opening())
        for message in (
            Rewire(SESSION, 1, ALONE, 0, 0),
            Replay(SESSION, 1, 0, 1, 0, 1, 8, 0, 0),
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


NONSENSE = {
    "an empty route": lambda: replace(opening(), route=Route(())),
    "a stage beyond the route": lambda: replace(opening(), stage=9),
    "a route with a hole": lambda: replace(opening(), route=Route((ROUTE.stages[1],))),
    "rewired beyond the route": lambda: Rewire(SESSION, 2, ROUTE, 2, 0),
    "a replay in chunks of nothing": lambda: Replay(SESSION, 1, 0, 1, 0, 1, 0, 0, 0),
    "a replay of nothing": lambda: Replay(SESSION, 1, 0, 1, 1, 1, 8, 0, 0),
    "a replay to itself": lambda: Replay(SESSION, 1, 1, 1, 0, 1, 8, 0, 0),
}


@pytest.mark.parametrize("make", NONSENSE.values(), ids=NONSENSE)
def test_what_makes_no_sense_in_itself_is_no_message_at_all(make):
    with pytest.raises(ProtocolError):
        make()


LONGER = Route((Stage(ANNA, Span(0, 9)),))
ELSEWHERE = Route((Stage(BEN, LOWER), Stage(ANNA, UPPER)))

ODD = {
    "layers that the model does not have": opening(session=OTHER, route=LONGER),
    "a stage that is another's": opening(session=OTHER, route=ELSEWHERE),
    "rewired to another's stage": Rewire(SESSION, 1, ELSEWHERE, 0, 0),
    "a replay through stages that are not": Replay(SESSION, 1, 0, 9, 0, 1, 8, 0, 0),
    "a replay from a stage that is not": Replay(SESSION, 1, 7, 9, 0, 1, 8, 0, 0),
    "a replay of an unknown session": Replay(OTHER, 1, 0, 1, 0, 1, 8, 0, 0),
    "a close of an unknown session": SessionClose(OTHER),
    "a step through stages that are not": step(1, 1, [1], through=9),
    "a step at the end of the world": step(1, 2**53 - 1, [2**53 - 1]),
}


@pytest.mark.parametrize("message", ODD.values(), ids=ODD)
def test_a_message_that_does_not_fit_does_not_end_the_worker(message):
    async def test(bench):
        await bench.opened(opening())
        bench.receive(OWNER, step(0, 0, [1]), message)
        await bench.settle()
        bench.receive(OWNER, opening(session=THIRD), step(0, 0, [1], session=THIRD))
        await bench.settle()
        assert any(one.session == THIRD for one in bench.passed_on())
        assert bench.done == 4

    on_bench(test)


def test_a_stranger_cannot_stop_a_session_by_announcing_a_later_epoch():
    async def test(bench):
        await bench.opened()
        bench.receive(STRANGER, Rewire(SESSION, 99, ALONE, 0, 0))
        await bench.settle()
        bench.receive(OWNER, step(0, 0, [1], ALONE))
        await bench.settle()
        assert bench.tokens() == true_tokens([1])

    on_bench(test)


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


def test_an_answer_that_is_too_large_to_send_is_refused_and_does_not_end_the_worker():
    wide = hash_spec(2, vocabulary=70_000, context=64)
    served = replace(model(), spec=wide, load=lambda span: HashEngine(wide, span))

    async def test(bench):
        await bench.opened()
        greedy_for_more = Want(rows="last", top_n=66_000)  # more entries than a list may have
        bench.receive(OWNER, step(0, 0, [1], ALONE, want=greedy_for_more))
        await bench.settle()
        assert bench.refusal() == "protocol"
        bench.receive(OWNER, step(1, 1, [2], ALONE, want=Want(rows="last")))
        await bench.settle()
        assert len(bench.tokens()) == 1

    on_bench(test, served=served)
