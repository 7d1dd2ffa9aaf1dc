"""Whoever decides about moves believes only answers to what it asked, and outlives odd records."""

from __future__ import annotations

import asyncio
import tracemalloc

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId
from manyhands.domain.messages import NotMoved
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.node.model import Model
from manyhands.node.mover import Followed
from manyhands.node.replanner import Replanner
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual
from node_cases import ANNA, BEN, MODEL_ID, RecordingLinks, model

DEVICE = Device("virtual", 1 << 20, 1e9, 1e9)


class Town:
    """ANNA decides."""

    swarm = Swarm(peers={peer: PeerRecord(peer, 1, 1e9, "", DEVICE) for peer in (ANNA, BEN)})

    async def changed(self) -> None:
        await asyncio.Event().wait()


def replanner(of) -> Replanner:
    clock = asyncio.get_running_loop().time
    made = Replanner(ANNA, of, Town(), VirtualCompute(), clock, Settings(), RecordingLinks().send)
    made.follow(Followed(MODEL_ID, ANNA, 64, True))
    return made


def test_answers_that_nobody_asked_for_take_no_memory():
    async def main():
        deciding = replanner(lambda _: model())
        tracemalloc.start()
        for number in range(1000):
            span = Span(number, number + 1)
            deciding.receive(BEN, NotMoved(MODEL_ID, span, "load", "error", str(number) * 1000))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken < 100_000

    run_virtual(main)


def test_a_look_that_fails_is_not_the_last():
    looks: list[ModelId] = []

    def broken(name: ModelId) -> Model:
        looks.append(name)
        raise RuntimeError("odd")

    async def main():
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(replanner(broken).run())
            await asyncio.sleep(3 * Settings().settle_s)
            running.cancel()

    run_virtual(main)
    assert len(looks) > 1
