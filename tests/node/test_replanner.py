"""Whoever decides about moves believes only answers to what it asked, and outlives odd records."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.messages import AskMove, NotMoved
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.node.model import Model
from manyhands.node.mover import Followed
from manyhands.node.replanner import Replanner
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual
from node_cases import ANNA, BEN, MODEL_ID, STRANGER, RecordingLinks, model

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


def test_where_one_does_not_load_another_is_asked():
    asked: list[PeerId] = []

    async def main():
        clock, town = asyncio.get_running_loop().time, Town()
        slow = replace(DEVICE, read_bytes_per_s=1e8)
        town.swarm = Swarm(
            peers={
                ANNA: PeerRecord(ANNA, 1, 1e9, "", DEVICE),
                BEN: record(BEN, DEVICE),
                STRANGER: record(STRANGER, slow),
            }
        )

        def send(peer: PeerId, ask: AskMove) -> None:
            asked.append(peer)
            deciding.receive(peer, NotMoved(MODEL_ID, ask.span, ask.change, "resource", "full"))

        deciding = Replanner(
            ANNA, lambda _: model(), town, VirtualCompute(), clock, Settings(), send
        )
        deciding.follow(Followed(MODEL_ID, ANNA, 64, False))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(deciding.run())
            await asyncio.sleep(3 * Settings().settle_s)
            running.cancel()

    def record(peer: PeerId, device: Device) -> PeerRecord:
        profile, room = model().profile, device.memory_bytes
        return PeerRecord(
            peer, 1, 1e9, "", device, profile.kernels, room_bytes=room, moves=(MODEL_ID,)
        )

    run_virtual(main)
    assert asked == [BEN, STRANGER]
