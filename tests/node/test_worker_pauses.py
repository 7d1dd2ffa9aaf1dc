"""A worker that gives nothing for a while: owners are told at once, and nothing is computed."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.messages import Ready, Refused, Rewire
from manyhands.domain.work import Result
from manyhands.errors import PeerPaused
from node_cases import ALONE, ANNA, OTHER, OWNER, SESSION, opening, step
from worker_bench import on_bench

WHY = PeerPaused("somebody uses it")


def refused(bench) -> list[tuple[str, int]]:
    return [(one.code, one.epoch) for one in bench.links.of(Refused, to=OWNER)]


def test_owners_are_told_at_once_and_steps_that_wait_are_not_computed():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE))
        bench.worker.pause(WHY)
        bench.receive(OWNER, step(1, 2, [3], ALONE))
        await bench.settle()
        assert refused(bench) == [("peer_paused", 1)]
        assert bench.batches == []
        assert bench.done == 2  # their places are free again
        assert bench.links.of(Result) == []

    on_bench(test)


def test_openings_and_newer_epochs_are_refused_until_it_gives_again():
    async def test(bench):
        await bench.opened()
        bench.worker.pause(WHY)
        bench.links.take()
        bench.receive(OWNER, opening(session=OTHER), Rewire(SESSION, 2, ALONE, 0, 0))
        await bench.settle()
        assert refused(bench) == [("peer_paused", 1), ("peer_paused", 2)]
        bench.worker.resume()
        bench.receive(OWNER, Rewire(SESSION, 3, ALONE, 0, 0))
        await bench.settle()
        assert [ready.epoch for ready in bench.links.of(Ready)] == [3]

    on_bench(test)


def test_what_arrived_before_the_pause_but_was_not_begun_is_refused_too():
    async def test(bench):
        bench.receive(OWNER, opening(route=ALONE))
        bench.worker.pause(WHY)
        await bench.settle()
        assert refused(bench) == [("peer_paused", 1)]
        assert bench.worker.memories.all() == []

    on_bench(test)


def test_sessions_of_its_own_go_on():
    async def test(bench):
        bench.receive(ANNA, replace(opening(route=ALONE), owner=ANNA))
        await bench.settle()
        bench.worker.pause(WHY)
        bench.receive(ANNA, step(0, 0, [1, 2], ALONE))
        await bench.settle()
        assert bench.links.of(Refused) == []
        assert len(bench.links.of(Result, to=ANNA)) == 1

    on_bench(test)


def test_what_is_under_way_may_be_finished_and_nothing_else_begun():
    async def test(bench):
        await bench.opened()
        bench.worker.pause(WHY, finishes=True)
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE), opening(session=OTHER, route=ALONE))
        await bench.settle()
        assert len(bench.links.of(Result)) == 1
        assert [one.session for one in bench.links.of(Refused)] == [OTHER]

    on_bench(test)
