"""What strangers and broken peers may send a worker: nothing of it harms others' sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manyhands.domain.ids import SessionId
from manyhands.domain.messages import Ready, Refused, Replay, Rewire, SessionClose
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.work import MOST_TOP_N, Result, Route, Stage, Want
from manyhands.errors import ProtocolError
from manyhands.node.opening import MOST_LEASES
from manyhands.node.stage import history_digest
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
    RecordingLinks,
    model,
    opening,
    step,
    true_tokens,
)
from worker_bench import on_bench

THIRD = SessionId("33" * 16)
NAMES = (SESSION, OTHER, THIRD)


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
        assert bench.links.of(Ready, to=STRANGER) == [Ready(OTHER, 1, 0, 0, history_digest([]))]

    on_bench(test)


def test_an_answer_that_is_too_large_to_send_is_refused_and_does_not_end_the_worker():
    wide = hash_spec(2, vocabulary=70_000, context=64)
    served = replace(model(), spec=wide, load=lambda span: HashEngine(wide, span))

    async def test(bench):
        await bench.opened()
        greedy_for_more = Want(rows="all", top_n=MOST_TOP_N)  # over a header's 16 MiB together
        bench.receive(OWNER, step(0, 0, [1] * 16, ALONE, want=greedy_for_more))
        await bench.settle()
        assert bench.refusal() == "frame"
        bench.receive(OWNER, step(1, 16, [2], ALONE, want=Want(rows="last")))
        await bench.settle()
        assert len(bench.tokens()) == 1

    on_bench(test, served=served)


async def open_three(bench) -> None:
    await bench.opened(*(opening(route=ALONE, session=name) for name in NAMES))


def test_steps_that_are_not_let_in_take_no_room_in_a_batch():
    async def test(bench):
        await open_three(bench)
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE, session=NAMES[0]))
        bench.receive(STRANGER, step(0, 0, [1, 2], ALONE, session=NAMES[1]))
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE, session=NAMES[2]))
        await bench.settle()
        assert bench.batches == [[2, 2]]

    on_bench(test, settings=Settings(beat_every_s=60.0, chunk_tokens=4))


class BrokenLinks(RecordingLinks):
    """Links that fail, unlike any error of ours, on results of one session."""

    def send(self, peer, message) -> None:
        if isinstance(message, Result) and message.session == NAMES[1]:
            raise RuntimeError("no way out")
        super().send(peer, message)


def test_a_step_that_cannot_be_passed_on_is_refused_and_the_others_of_its_batch_go_on():
    async def test(bench):
        await open_three(bench)
        for name in NAMES:
            bench.receive(OWNER, step(0, 0, [1, 2], ALONE, session=name))
        await bench.settle()
        (refused,) = bench.links.of(Refused)
        assert (refused.session, refused.code) == (NAMES[1], "failed")
        assert "no way out" in refused.message
        assert [one.session for one in bench.links.of(Result)] == [NAMES[0], NAMES[2]]
        assert bench.done == len(NAMES)
        bench.receive(OWNER, step(1, 2, [3], ALONE, session=NAMES[2]))
        await bench.settle()
        assert list(bench.answer().tokens) == true_tokens([1, 2, 3])[2:]  # the worker lives

    on_bench(test, links=BrokenLinks())


def test_nobody_keeps_a_place_for_longer_than_some_of_our_own_leases():
    async def test(bench):
        await bench.opened(opening(route=ALONE, lease_s=1e9))
        await bench.settle(MOST_LEASES * 2.0 - 1.0)
        assert len(bench.worker.memories.all()) == 1
        await bench.settle(2.0)
        assert bench.worker.memories.all() == []

    on_bench(test, settings=Settings(lease_s=2.0))


@pytest.mark.parametrize("is_opening", [False, True])
def test_a_memory_whose_engine_forgot_it_is_dropped_and_may_be_opened_afresh(is_opening):
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE))
        await bench.settle()
        (memory,) = bench.worker.memories.all()
        bench.worker.memories.engine(memory).close(memory.name)
        anew = opening(route=ALONE, epoch=2, position=2)
        bench.receive(OWNER, anew if is_opening else Rewire(SESSION, 2, ALONE, 0, 2))
        await bench.settle()
        assert bench.refusal() == "session_unknown"
        assert bench.links.of(Ready) == bench.worker.memories.all() == []
        bench.receive(OWNER, replace(anew, epoch=3), step(0, 0, [7, 8], ALONE, epoch=3))
        await bench.settle()
        assert bench.links.of(Ready) == [Ready(SESSION, 3, 0, 0, history_digest([]))]
        assert list(bench.answer().tokens) == true_tokens([7, 8])

    on_bench(test)
