"""A worker and its sessions: opened or refused by name, rewired, replayed, closed, and ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, SessionId
from manyhands.domain.messages import (
    Beat,
    Gap,
    LinkLost,
    Ready,
    Refused,
    Renew,
    Replay,
    Rewire,
    SessionClose,
)
from manyhands.domain.settings import Settings
from manyhands.domain.work import Result, Route, SessionOpen, Stage, Step
from manyhands.node.stage import history_digest
from manyhands.sim.hash_engine import HashEngine
from manyhands.sim.virtual_loop import VirtualCompute
from node_cases import (
    ALONE,
    ANNA,
    BEN,
    LOWER,
    OTHER,
    OWNER,
    PROFILE,
    ROUTE,
    SESSION,
    SPEC,
    STRANGER,
    UPPER,
    model,
    opening,
    step,
    true_hidden,
    true_tokens,
)
from worker_bench import on_bench

EMPTY = history_digest([])
THIRD = SessionId("33" * 16)


def test_an_opening_is_answered_by_ready_and_the_next_stage_is_connected():
    async def test(bench):
        bench.receive(OWNER, opening())
        await bench.settle()
        assert bench.links.sent == [(OWNER, Ready(SESSION, 1, 0, 0, EMPTY))]
        assert bench.links.connected == [BEN]
        assert bench.done == 1
        assert bench.holdings.find(opening().model, LOWER) is not None

    on_bench(test)


REFUSED = {
    "other weights": (opening(profile=replace(PROFILE, weights="ff" * 32)), "not_served"),
    "kernels it may not use": (opening(profile=replace(PROFILE, kernels="torch")), "not_served"),
    "a codec nobody knows": (opening(profile=replace(PROFILE, wire_codec="zip")), "not_served"),
    "a longer context than the model's": (opening(context_limit=65), "not_served"),
    "an unknown model": (opening(model=ModelId("ee" * 32)), "not_served"),
}


@pytest.mark.parametrize(("asked", "code"), REFUSED.values(), ids=REFUSED)
def test_what_this_peer_cannot_compute_as_asked_is_refused_by_name(asked: SessionOpen, code: str):
    async def test(bench):
        bench.receive(OWNER, asked)
        await bench.settle()
        assert [type(message) for _, message in bench.links.sent] == [Refused]
        assert bench.refusal() == code
        assert bench.done == 1
        assert bench.worker.memories.all() == []
        bench.receive(OWNER, opening())
        await bench.settle()
        assert len(bench.links.of(Ready)) == 1  # the refusal left nothing behind

    on_bench(test)


def test_kernels_that_the_profile_accepts_are_served():
    async def test(bench):
        profile = replace(PROFILE, kernels="torch", accepts=("numpy", "hash"))
        await bench.opened(opening(profile=profile))

    on_bench(test)


def test_a_peer_without_room_for_the_weights_refuses_by_name():
    async def test(bench):
        bench.receive(OWNER, opening())
        await bench.settle()
        assert bench.refusal() == "resource"

    on_bench(test, device=Device("small", 7, 1.0, 1.0))


class SlowLoading(VirtualCompute):
    async def run(self, work, cost_s):
        await asyncio.sleep(3.0)
        return await super().run(work, cost_s)


def test_while_a_span_is_loading_the_owner_hears_beats_and_others_are_served():
    async def test(bench):
        await bench.holdings.hold(opening().model, UPPER)
        bench.receive(OWNER, opening(session=OTHER))
        await bench.settle(1.0)
        beats = bench.links.of(Beat, to=OWNER)
        assert beats
        assert all((beat.session, beat.stage) == (OTHER, 0) for beat in beats)
        await bench.settle(3.0)
        assert len(bench.links.of(Ready)) == 1

    on_bench(test, loading=SlowLoading(), settings=Settings())


def test_an_open_session_beats_with_what_is_finished_and_how_old_the_running_step_is():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1], ALONE))
        await bench.settle(1.0)
        assert bench.links.of(Beat)[-1] == Beat(SESSION, 1, 0, 1, 0.0)
        bench.receive(OWNER, step(1, 1, [2], ALONE))
        await bench.settle(1.0)
        assert bench.links.of(Beat)[-1].running_s == 0.0

    on_bench(test, settings=Settings())


def test_a_long_step_shows_its_age_in_the_beats():
    async def test(bench):
        await bench.opened()
        engine = bench.holdings.find(opening().model, SPEC.span)
        engine._token_s = 1.0  # four layers, one token: four seconds
        bench.receive(OWNER, step(0, 0, [1], ALONE))
        await bench.settle(3.9)
        ages = [beat.running_s for beat in bench.links.of(Beat)]
        assert ages == sorted(ages)
        assert 3.5 < ages[-1] < 3.9
        assert bench.links.of(Beat)[-1].finished == 0

    on_bench(test, settings=Settings())


def rewire(epoch: int, position: int, route: Route = ALONE, stage: int = 0) -> Rewire:
    return Rewire(SESSION, epoch, route, stage, position)


def test_a_rewire_cuts_and_says_what_is_held_and_the_text_goes_on():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2, 3], ALONE))
        await bench.settle()
        bench.receive(OWNER, rewire(2, 2))
        await bench.settle()
        assert bench.links.of(Ready) == [Ready(SESSION, 2, 0, 2, history_digest([1, 2]))]
        bench.receive(OWNER, step(0, 2, [9], ALONE, epoch=2))
        await bench.settle()
        assert list(bench.answer().tokens) == true_tokens([1, 2, 9])[2:]

    on_bench(test)


def test_steps_of_the_epoch_before_are_dropped_even_those_that_came_first():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1], ALONE), rewire(2, 0), step(1, 1, [2], ALONE))
        await bench.settle()
        assert bench.links.of(Result) == []
        assert bench.links.of(Ready) == [Ready(SESSION, 2, 0, 0, EMPTY)]
        assert bench.done == 3

    on_bench(test)


def test_an_old_rewire_and_one_of_an_unknown_session_change_nothing():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, rewire(1, 0), Rewire(OTHER, 2, ALONE, 0, 0))
        await bench.settle()
        assert bench.refusal() == "session_unknown"
        assert bench.links.of(Ready) == []
        assert bench.worker.memories.at(SESSION, 0).epoch == 1

    on_bench(test)


def test_an_opening_of_a_newer_epoch_keeps_what_is_held():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE))
        await bench.settle()
        bench.receive(OWNER, opening(route=ALONE, epoch=2, position=2))
        await bench.settle()
        assert bench.links.of(Ready) == [Ready(SESSION, 2, 0, 2, history_digest([1, 2]))]

    on_bench(test)


def test_a_span_that_the_new_route_gives_to_another_is_freed_here():
    async def test(bench):
        both = Route((Stage(ANNA, LOWER), Stage(ANNA, UPPER)))
        await bench.opened(opening(0, both), opening(1, both))
        assert len(bench.worker.memories.of(SESSION)) == 2
        bench.receive(OWNER, Rewire(SESSION, 2, ROUTE, 0, 0))
        await bench.settle()
        (kept,) = bench.worker.memories.of(SESSION)
        assert kept.span == LOWER

    on_bench(test)


def test_closing_frees_the_memory_and_later_steps_go_nowhere():
    async def test(bench):
        await bench.holdings.hold(opening().model, SPEC.span)
        engine = bench.holdings.find(opening().model, SPEC.span)
        empty = engine.room()
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE))
        await bench.settle()
        assert engine.room() < empty
        bench.receive(OWNER, SessionClose(SESSION), step(1, 2, [3], ALONE))
        await bench.settle()
        assert engine.room() == empty
        assert bench.worker.memories.all() == []
        assert len(bench.links.of(Result)) == 1
        assert bench.done == 3
        await bench.opened()  # the same name may be opened again

    on_bench(test)


def test_a_close_makes_the_steps_vanish_that_wait_and_others_keep_theirs():
    async def test(bench):
        await bench.opened(opening(route=ALONE), opening(route=ALONE, session=OTHER))
        waiting = [step(number, number, [1], ALONE) for number in range(3)]
        bench.receive(OWNER, *waiting, step(0, 0, [2], ALONE, session=OTHER), SessionClose(SESSION))
        await bench.settle()
        (result,) = bench.links.of(Result)
        assert result.session == OTHER
        assert bench.batches == [[1]]
        assert bench.done == 5

    on_bench(test)


def test_a_session_closed_while_its_span_is_loading_is_never_opened():
    async def test(bench):
        bench.receive(OWNER, opening(), SessionClose(SESSION))
        await bench.settle(4.0)
        assert bench.links.of(Ready) == []
        assert bench.worker.memories.all() == []
        assert bench.done == 2

    on_bench(test, loading=SlowLoading())


def test_a_session_whose_owner_is_gone_is_freed_when_its_lease_ends():
    async def test(bench):
        await bench.opened(opening(lease_s=5.0), opening(session=OTHER, lease_s=5.0))
        for _ in range(4):
            await bench.settle(2.0)
            bench.receive(OWNER, Renew(OTHER))
            bench.receive(STRANGER, Renew(SESSION))
        assert [memory.session for memory in bench.worker.memories.all()] == [OTHER]
        await bench.settle(6.0)
        assert bench.worker.memories.all() == []
        bench.links.take()
        await bench.settle(5.0)
        assert bench.links.sent == []  # and no more beats

    on_bench(test, settings=Settings())


def test_steps_keep_a_session_alive_too():
    async def test(bench):
        await bench.opened(opening(route=ALONE, lease_s=5.0))
        for number in range(4):
            bench.receive(OWNER, step(number, number, [1], ALONE))
            await bench.settle(4.0)
        assert len(bench.tokens()) == 4

    on_bench(test, settings=Settings())


def test_a_fork_goes_on_from_its_parent_and_costs_the_parent_nothing():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2, 3], ALONE))
        await bench.settle()
        fork = opening(route=ALONE, session=OTHER, parent=SESSION, parent_position=2)
        bench.receive(OWNER, fork)
        await bench.settle()
        assert bench.links.of(Ready) == [Ready(OTHER, 1, 0, 2, history_digest([1, 2]))]
        bench.links.take()
        bench.receive(OWNER, step(0, 2, [9], ALONE, session=OTHER), step(1, 3, [4], ALONE))
        await bench.settle()
        child, parent = (bench.said_to(name) for name in (OTHER, SESSION))
        assert list(child.tokens) == true_tokens([1, 2, 9])[2:]
        assert list(parent.tokens) == true_tokens([1, 2, 3, 4])[3:]
        bench.receive(OWNER, SessionClose(SESSION), step(1, 3, [5], ALONE, session=OTHER))
        await bench.settle()
        assert list(bench.answer().tokens) == true_tokens([1, 2, 9, 5])[3:]

    on_bench(test)


def test_a_fork_can_replay_the_journal_it_shares_with_its_parent():
    async def test(bench):
        await bench.opened(opening())
        bench.receive(OWNER, step(0, 0, [1, 2, 3]))
        await bench.settle()
        bench.receive(
            OWNER,
            opening(session=OTHER, parent=SESSION, parent_position=2),
            step(0, 2, [9], session=OTHER),
            Replay(OTHER, 1, 0, 1, 0, 3, 8, 7, 0),
        )
        await bench.settle()
        assert bench.passed_on()[-1].tensor == true_hidden([1, 2, 9])

    on_bench(test)


def test_a_fork_begins_with_what_is_held_of_its_parent_be_it_nothing():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE))
        await bench.settle()
        bench.links.take()
        bench.receive(OWNER, opening(route=ALONE, session=OTHER, parent=SESSION, parent_position=9))
        lost = SessionId("99" * 16)
        bench.receive(OWNER, opening(route=ALONE, session=THIRD, parent=lost, parent_position=9))
        await bench.settle()
        assert bench.links.of(Ready) == [
            Ready(OTHER, 1, 0, 2, history_digest([1, 2])),
            Ready(THIRD, 1, 0, 0, EMPTY),
        ]

    on_bench(test)


def test_a_lost_link_is_told_to_the_owners_of_the_sessions_that_go_over_it():
    async def test(bench):
        await bench.opened(opening(), opening(0, ALONE, session=OTHER))
        bench.worker.link_lost(STRANGER)
        assert bench.links.sent == []
        bench.worker.link_lost(BEN)
        assert bench.links.sent == [(OWNER, LinkLost(SESSION, 1, ANNA, BEN))]

    on_bench(test)


def test_a_replay_sends_the_journal_again_in_chunks_that_nobody_answers():
    async def test(bench):
        await bench.opened(opening())
        bench.receive(OWNER, step(0, 0, [1, 2, 3]), step(1, 3, [4, 5]))
        await bench.settle()
        bench.links.take()
        bench.receive(OWNER, Replay(SESSION, 1, 0, 1, 1, 5, 3, 20, 2))
        await bench.settle()
        first, second = bench.passed_on()
        whole = true_hidden([1, 2, 3, 4, 5])
        size = whole.row_bytes
        assert bench.links.of(Step, to=BEN) == [first, second]
        assert (first.position, first.token_ids, first.sequence) == (1, (2, 3, 4), 20)
        assert (second.position, second.token_ids, second.sequence) == (4, (5,), 21)
        assert (first.stage, first.through, first.branch, first.want.rows) == (1, 1, 2, "none")
        assert first.tensor.payload == whole.payload[size : 4 * size]
        assert second.tensor.payload == whole.payload[4 * size :]

    on_bench(test)


def test_a_replay_of_more_than_is_held_is_a_gap_and_one_of_another_epoch_nothing():
    async def test(bench):
        await bench.opened(opening())
        bench.receive(OWNER, step(0, 0, [1, 2]))
        bench.receive(OWNER, Replay(SESSION, 1, 0, 1, 0, 3, 8, 0, 0))
        bench.receive(OWNER, Replay(SESSION, 2, 0, 1, 0, 2, 8, 0, 0))
        await bench.settle()
        assert bench.links.of(Gap) == [Gap(SESSION, 1, 0, 2)]
        assert len(bench.passed_on()) == 1

    on_bench(test)


def test_journals_have_a_budget_and_what_is_over_it_is_refused():
    async def test(bench):
        await bench.opened(opening(context_limit=9000))
        bench.receive(OWNER, step(0, 0, [1] * 5000), step(1, 5000, [1] * 1000))
        await bench.settle(20.0)
        assert "Settings(journal_bytes=" in bench.links.of(Refused)[-1].message
        assert bench.refusal() == "resource"
        assert len(bench.passed_on()) == 1
        bench.receive(OWNER, step(2, 5000, [1] * 400))
        await bench.settle(20.0)
        assert len(bench.passed_on()) == 2  # what fits is still taken

    long = replace(SPEC, context=9000)
    served = replace(model(), spec=long, load=lambda span: HashEngine(long, span, token_s=1e-6))
    on_bench(test, served=served, settings=Settings(journal_bytes=2**16))
