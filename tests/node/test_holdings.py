"""What a peer holds: loaded once, found by cover, refused for want of room, told in its record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from manyhands.errors import CheckpointError, NotServed, PeerLost, ResourceError
from manyhands.node.holdings import Holdings
from manyhands.node.model import Model
from manyhands.sim.hash_engine import HashEngine
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual
from node_cases import LOWER, MODEL_ID, PROFILE, SPEC, UPPER

UNKNOWN = ModelId("ee" * 32)


class SlowLoading(VirtualCompute):
    """Reading weights takes a second here."""

    async def run(self, work, cost_s):
        await asyncio.sleep(1.0)
        return await super().run(work, cost_s)


class House:
    """Holdings whose loads and announcements are written down."""

    def __init__(self, weights: int = 100, load=None, stored=(SPEC.span,)) -> None:
        self.loaded: list[Span] = []
        self.changes = 0
        device = Device("virtual", 4 * weights, 1.0, 1.0)  # four bytes a weight, one a layer
        model = Model(MODEL_ID, SPEC, PROFILE, load or self._load, stored)
        self.holdings = Holdings(device, {MODEL_ID: model}, SlowLoading(), self._changed)

    def _load(self, span):
        self.loaded.append(span)
        return HashEngine(SPEC, span)

    def _changed(self):
        self.changes += 1


def with_house(test, **options) -> None:
    async def main():
        await test(House(**options))

    run_virtual(main)


def test_nothing_is_held_at_first_but_a_whole_model_is_stored():
    async def test(house):
        assert house.holdings.find(MODEL_ID, LOWER) is None
        assert house.holdings.holdings() == (Holding(MODEL_ID, SPEC.span, "stored"),)
        assert house.holdings.room_bytes() == 400

    with_house(test)


def test_a_held_span_is_found_for_every_span_it_covers():
    async def test(house):
        engine = await house.holdings.hold(MODEL_ID, Span(1, 4))
        assert engine.span == Span(1, 4)
        for span in (Span(1, 4), Span(2, 3), Span(1, 2)):
            assert house.holdings.find(MODEL_ID, span) is engine
        assert house.holdings.find(MODEL_ID, Span(0, 2)) is None
        assert house.holdings.find(UNKNOWN, Span(1, 4)) is None

    with_house(test)


def test_the_smallest_covering_span_is_taken_and_of_equals_the_first():
    async def test(house):
        holdings = house.holdings
        small = await holdings.hold(MODEL_ID, Span(1, 3))
        same = await holdings.hold(MODEL_ID, Span(2, 4))
        whole = await holdings.hold(MODEL_ID, SPEC.span)
        assert holdings.find(MODEL_ID, Span(2, 3)) is small
        assert holdings.find(MODEL_ID, Span(3, 4)) is same
        assert holdings.find(MODEL_ID, LOWER) is whole

    with_house(test)


def test_a_span_that_is_covered_is_not_loaded_again():
    async def test(house):
        whole = await house.holdings.hold(MODEL_ID, SPEC.span)
        assert await house.holdings.hold(MODEL_ID, UPPER) is whole
        assert house.loaded == [SPEC.span]
        assert house.changes == 2  # being loaded, ready

    with_house(test)


def test_two_who_want_the_same_span_at_once_load_it_once():
    async def test(house):
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(house.holdings.hold(MODEL_ID, LOWER)) for _ in range(2)]
        assert both[0].result() is both[1].result()
        assert house.loaded == [LOWER]
        assert house.changes == 2

    with_house(test)


def test_a_record_names_what_is_ready_and_what_is_stored():
    async def test(house):
        await house.holdings.hold(MODEL_ID, UPPER)
        await house.holdings.hold(MODEL_ID, LOWER)
        assert house.holdings.holdings() == (
            Holding(MODEL_ID, LOWER, "ready"),
            Holding(MODEL_ID, UPPER, "ready"),
            Holding(MODEL_ID, SPEC.span, "stored"),
        )
        assert house.changes == 4

    with_house(test)


def test_a_span_that_is_being_loaded_is_told_so_that_nobody_else_takes_it():
    async def test(house):
        async with asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(house.holdings.hold(MODEL_ID, UPPER))
            await asyncio.sleep(0.5)
            assert house.changes == 1
            assert house.holdings.holdings() == (
                Holding(MODEL_ID, UPPER, "fetching"),
                Holding(MODEL_ID, SPEC.span, "stored"),
            )
            assert house.holdings.find(MODEL_ID, UPPER) is None
            await loading
        assert house.holdings.holdings()[0] == Holding(MODEL_ID, UPPER, "ready")

    with_house(test)


def test_weights_take_room_and_without_room_a_span_is_refused():
    async def test(house):
        await house.holdings.hold(MODEL_ID, LOWER)
        assert house.holdings.room_bytes() == 4
        with pytest.raises(ResourceError, match="needs 8 bytes, 4 are free"):
            await house.holdings.hold(MODEL_ID, UPPER)
        assert house.loaded == [LOWER]
        await house.holdings.hold(MODEL_ID, Span(2, 3))
        assert house.holdings.room_bytes() == 0

    with_house(test, weights=3)


def test_two_who_want_the_last_room_at_once_do_not_both_get_it():
    async def test(house):
        async with asyncio.TaskGroup() as tasks:
            both = [
                tasks.create_task(_error_of(house.holdings.hold(MODEL_ID, span)))
                for span in (LOWER, UPPER)
            ]
        assert [type(task.result()) for task in both] == [type(None), ResourceError]

    with_house(test, weights=3)


def test_an_unknown_model_or_layers_it_does_not_have_are_not_served():
    async def test(house):
        with pytest.raises(NotServed, match="not on this peer's disk"):
            await house.holdings.hold(UNKNOWN, LOWER)
        with pytest.raises(NotServed, match="not on this peer's disk"):
            await house.holdings.hold(MODEL_ID, Span(2, 5))
        with pytest.raises(NotServed):
            house.holdings.model(UNKNOWN)
        assert house.holdings.model(MODEL_ID).spec is SPEC
        assert house.changes == 0

    with_house(test)


def test_of_a_model_that_is_stored_in_part_only_that_part_is_served():
    async def test(house):
        with pytest.raises(NotServed, match="not on this peer's disk"):
            await house.holdings.hold(MODEL_ID, Span(1, 3))
        await house.holdings.hold(MODEL_ID, Span(3, 4))
        assert house.holdings.holdings() == (
            Holding(MODEL_ID, Span(3, 4), "ready"),
            Holding(MODEL_ID, Span(0, 1), "stored"),
            Holding(MODEL_ID, UPPER, "stored"),
        )

    with_house(test, stored=(Span(0, 1), UPPER))


def test_a_load_that_fails_leaves_everything_as_it_was_and_may_be_tried_again():
    failures = [CheckpointError("a file is cut short")]

    def load(span):
        if failures:
            raise failures.pop()
        return HashEngine(SPEC, span)

    async def test(house):
        with pytest.raises(CheckpointError, match="cut short"):
            await house.holdings.hold(MODEL_ID, LOWER)
        assert (house.changes, house.holdings.room_bytes()) == (2, 400)
        assert house.holdings.holdings() == (Holding(MODEL_ID, SPEC.span, "stored"),)
        assert house.holdings.find(MODEL_ID, LOWER) is None
        assert (await house.holdings.hold(MODEL_ID, LOWER)).span == LOWER

    with_house(test, load=load)


def test_a_span_that_is_not_stored_is_fetched_first_and_stored_from_then_on():
    fetched, failures = [], [PeerLost("nobody gives it")]

    async def fetch(span):
        await asyncio.sleep(1.0)
        if failures:
            raise failures.pop()
        fetched.append(span)

    async def test(house):
        holdings = house.holdings
        holdings.add(replace(holdings.model(MODEL_ID), fetch=fetch))
        with pytest.raises(PeerLost, match="nobody gives"):
            await holdings.hold(MODEL_ID, UPPER)
        assert holdings.holdings() == (Holding(MODEL_ID, LOWER, "stored"),)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(holdings.hold(MODEL_ID, UPPER))
            await asyncio.sleep(0.5)  # told while it is on its way, so that nobody else takes it
            assert Holding(MODEL_ID, UPPER, "fetching") in holdings.holdings()
            assert house.loaded == []
        assert fetched == house.loaded == [UPPER]
        assert Holding(MODEL_ID, UPPER, "stored") in holdings.holdings()
        await holdings.hold(MODEL_ID, LOWER)
        assert fetched == [UPPER]  # that one was here

    with_house(test, stored=(LOWER,))


async def _error_of(work):
    try:
        await work
    except ResourceError as error:
        return error
    return None
