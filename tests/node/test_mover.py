"""A peer's part in moves: asked by who decides, within memory, and nothing let go of too soon."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from manyhands.domain.device import Device
from manyhands.domain.messages import AskMove, NotMoved
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding, PeerRecord, Swarm
from manyhands.node.holdings import Holdings
from manyhands.node.memories import Memories
from manyhands.node.mover import GRACE_S, Followed, Mover
from manyhands.node.stage import StageMemory
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual
from node_cases import (
    ANNA,
    BEN,
    LOWER,
    MODEL_ID,
    SPEC,
    STRANGER,
    UPPER,
    RecordingLinks,
    model,
    opening,
)

SETTINGS = Settings(drain_s=10.0)
LARGE = Device("virtual", 1 << 20, 1e9, 1e9)


class Town:
    """ANNA's mover; BEN founded the swarm, and what he and others hold is as set."""

    def __init__(self, device: Device = LARGE, is_movable: bool = True) -> None:
        self.links, self.memories = RecordingLinks(), Memories()
        self.swarm = Swarm()
        self.others: dict = {}
        self.device = device
        self.holdings = Holdings(device, {MODEL_ID: model()}, VirtualCompute(), self._changed)
        clock = asyncio.get_running_loop().time
        self.mover = Mover(
            ANNA,
            device.memory_bytes,
            self.holdings,
            self.memories,
            self,
            clock,
            SETTINGS,
            self.links.send,
        )
        self.mover.follow(Followed(MODEL_ID, BEN, 64, is_movable))
        self.hold(BEN)

    async def changed(self) -> None:
        raise NotImplementedError

    def hold(self, peer, *spans: Span, state: str = "ready") -> None:
        self.others[peer] = tuple(Holding(MODEL_ID, span, state) for span in spans)
        self._changed()

    def _changed(self) -> None:
        told = {**self.others, ANNA: self.holdings.holdings()}
        self.swarm = Swarm(
            peers={p: PeerRecord(p, 1, 1e9, "", self.device, holdings=h) for p, h in told.items()}
        )

    async def ask(self, change: str, span: Span, source=BEN, wait_s: float = 5.0) -> list[NotMoved]:
        self.mover.receive(source, AskMove(MODEL_ID, span, change))
        await asyncio.sleep(wait_s)
        return [message for _, message in self.links.take()]

    def states(self) -> dict[Span, str]:
        return {h.span: h.state for h in self.holdings.holdings() if h.state != "stored"}


def play(test, **options) -> None:
    async def main():
        town = Town(**options)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(town.mover.run())
            await test(town)
            running.cancel()

    run_virtual(main)


def test_what_is_asked_for_is_loaded_and_let_go_of_once_others_have_it():
    async def test(town):
        assert await town.ask("load", LOWER) == []
        assert town.states() == {LOWER: "ready"}
        town.hold(BEN, SPEC.span)
        assert await town.ask("let_go", LOWER, wait_s=GRACE_S / 2) == []
        assert town.states() == {LOWER: "draining"}
        await asyncio.sleep(GRACE_S)
        assert town.states() == {}
        assert town.holdings.room_bytes() == LARGE.memory_bytes

    play(test)


def test_nobody_else_may_ask():
    async def test(town):
        (refusal,) = await town.ask("load", LOWER, source=STRANGER)
        assert "does not decide" in refusal.message
        assert town.states() == {}

    play(test)


def test_who_may_not_ask_hides_nothing_of_who_may():
    async def test(town):
        for _ in range(100):
            town.mover.receive(STRANGER, AskMove(MODEL_ID, LOWER, "load"))
        await town.ask("load", LOWER)
        assert town.states() == {LOWER: "ready"}

    play(test)


def test_layers_that_the_model_does_not_have_are_not_loaded():
    async def test(town):
        beyond = Span(SPEC.span.last - 1, 2**53 - 1)
        (refusal,) = await town.ask("load", beyond)
        assert "has no layers" in refusal.message
        assert town.states() == {}

    play(test)


def test_layers_given_by_hand_are_not_touched():
    async def test(town):
        await town.holdings.hold(MODEL_ID, LOWER)
        town.hold(BEN, SPEC.span)
        for change in ("load", "let_go"):
            (refusal,) = await town.ask(change, LOWER)
            assert "do not move" in refusal.message
        assert town.mover.models == ()
        assert town.states() == {LOWER: "ready"}

    play(test, is_movable=False)


def test_more_than_fits_with_memory_for_sessions_is_refused():
    async def test(town):
        (refusal,) = await town.ask("load", SPEC.span)
        assert refusal.code == "resource"
        assert "with memory for 64 tokens" in refusal.message
        assert town.states() == {}

    play(test, device=replace(LARGE, memory_bytes=400))


def test_a_load_that_breaks_is_told_and_the_next_one_works():
    async def test(town):
        broken = replace(model(), load=lambda span: 1 / 0)
        town.holdings.add(broken)
        (refusal,) = await town.ask("load", LOWER)
        assert "ZeroDivisionError" in refusal.message
        town.holdings.add(model())
        assert await town.ask("load", LOWER) == []
        assert town.states() == {LOWER: "ready"}

    play(test)


@pytest.mark.parametrize("state", ["fetching", "draining", "stored"])
def test_layers_that_nobody_else_has_ready_are_kept(state):
    async def test(town):
        await town.holdings.hold(MODEL_ID, LOWER)
        town.hold(BEN, Span(0, 1))
        town.hold(STRANGER, SPEC.span, state=state)
        (refusal,) = await town.ask("let_go", LOWER)
        assert "layers 1:2" in refusal.message
        assert town.states() == {LOWER: "ready"}

    play(test)


def test_they_are_kept_when_the_others_lose_them_meanwhile():
    async def test(town):
        await town.holdings.hold(MODEL_ID, LOWER)
        town.hold(BEN, SPEC.span)
        await town.ask("let_go", LOWER, wait_s=GRACE_S / 2)
        assert town.states() == {LOWER: "draining"}
        town.hold(BEN)
        await asyncio.sleep(GRACE_S)
        assert town.states() == {LOWER: "ready"}
        assert len(town.links.of(NotMoved, BEN)) == 1

    play(test)


def test_sessions_keep_them_and_those_that_stay_too_long_for_good():
    async def test(town):
        engine = await town.holdings.hold(MODEL_ID, LOWER)
        town.hold(BEN, SPEC.span)
        town.memories.add(StageMemory(opening(), 0.0), engine)
        assert await town.ask("let_go", LOWER, wait_s=SETTINGS.drain_s - 1) == []
        assert town.states() == {LOWER: "draining"}
        await asyncio.sleep(2)
        (refusal,) = town.links.of(NotMoved, BEN)
        assert "1 sessions stay" in refusal.message
        assert town.states() == {LOWER: "ready"}

    play(test)


def test_what_is_only_kept_of_ended_sessions_keeps_nothing():
    async def test(town):
        engine = await town.holdings.hold(MODEL_ID, LOWER)
        town.hold(BEN, SPEC.span)
        memory = StageMemory(opening(), 0.0)
        town.memories.add(memory, engine)
        town.memories.keep(memory, 1e9)
        assert await town.ask("let_go", LOWER) == []
        assert town.states() == {}
        assert len(town.memories.discarded) == 1

    play(test)


def test_a_load_of_what_drains_keeps_it():
    async def test(town):
        await town.holdings.hold(MODEL_ID, LOWER)
        town.hold(BEN, SPEC.span)
        await town.ask("let_go", LOWER, wait_s=GRACE_S / 2)
        assert await town.ask("load", Span(0, 1), wait_s=GRACE_S) == [
            NotMoved(MODEL_ID, LOWER, "let_go", "resource", "they are wanted again")
        ]
        assert town.states() == {LOWER: "ready"}

    play(test)


def test_a_span_that_is_not_here_is_let_go_of_already():
    async def test(town):
        assert await town.ask("let_go", UPPER) == []

    play(test)
