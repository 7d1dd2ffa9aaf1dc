"""Peers whose links or other ends fail: who is told what, when, and that it goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from manyhands.domain.settings import Settings
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.net.memory import Path
from node_cases import step
from peers_house import SETTINGS, announce, beat, in_house
from transport_conformance import ANNA, BEN, CLEO, Answering


@pytest.mark.parametrize("killed", [ANNA, BEN])
def test_a_peer_that_was_killed_and_restarted_is_reached_again(killed):
    async def test(house):
        other = BEN if killed == ANNA else ANNA
        house[other].send(killed, beat(0))
        await house.heard[killed].until(lambda heard: heard.messages)
        house.kill(killed)
        await house.heard[other].until(lambda heard: heard.lost)
        await house.start(killed)
        house[killed].send(other, beat(1))
        house[other].send(killed, beat(2))
        await house.heard[other].until(lambda heard: heard.messages)
        await house.heard[killed].until(lambda heard: heard.messages)
        assert house.heard[killed].messages == [(other, beat(2))]

    in_house(test)


def test_a_peer_that_nobody_knows_is_told_as_lost():
    async def test(house):
        house[ANNA].send(CLEO, beat(0))
        house[ANNA].send(CLEO, announce())
        await house.heard[ANNA].until(lambda heard: len(heard.lost) == 2)
        assert sorted(house.heard[ANNA].lost) == [
            (CLEO, "bulk", "closed"),
            (CLEO, "steps", "closed"),
        ]

    in_house(test)


def test_what_waited_for_an_unreachable_peer_is_dropped_not_kept():
    async def test(house):
        house.kill(BEN)
        house[ANNA].send(BEN, beat(0))
        await house.heard[ANNA].until(lambda heard: heard.lost)
        await house.start(BEN)
        house[ANNA].send(BEN, beat(1))
        await house.heard[BEN].until(lambda heard: heard.messages)
        assert house.heard[BEN].numbers() == [1]

    in_house(test)


def test_a_dial_that_nothing_answers_is_silent_first_and_lost_at_its_deadline():
    async def test(house):
        house.network.cut(ANNA, BEN)
        house[ANNA].send(BEN, beat(0))
        await house.heard[ANNA].until(lambda heard: "closed" in [loss[2] for loss in heard.lost])
        assert house.heard[ANNA].lost[0] == (BEN, "steps", "silent")
        assert house.heard[ANNA].lost[-1] == (BEN, "steps", "closed")
        now_s = asyncio.get_running_loop().time()
        assert now_s == pytest.approx(SETTINGS.dial_deadline_s, abs=0.1)

    in_house(test)


def test_a_connection_that_opens_and_brings_no_hello_is_silent_and_then_lost():
    async def test(house):
        house.names = (ANNA, BEN, CLEO)
        mute = await Answering(house.network.transport(CLEO)).start()
        house[ANNA].send(CLEO, beat(0))
        await mute.accepted()
        await house.heard[ANNA].until(lambda heard: heard.lost)
        assert house.heard[ANNA].lost[0] == (CLEO, "steps", "silent")
        await house.heard[ANNA].until(lambda heard: (CLEO, "steps", "closed") in heard.lost)
        assert house.heard[ANNA].opened == []

    in_house(test)


def test_a_message_that_nothing_confirms_is_told_as_silent_again_and_again():
    async def test(house):
        house[ANNA].send(BEN, step(0, 0, [1]))
        await house.heard[BEN].until(lambda heard: heard.messages)
        await asyncio.sleep(10)
        assert house.heard[ANNA].lost == []  # it was confirmed
        house.network.cut(BEN, ANNA)
        house[ANNA].send(BEN, step(1, 1, [1]))
        began_s = asyncio.get_running_loop().time()
        await house.heard[ANNA].until(lambda heard: len(heard.lost) == 3)
        waited_s = asyncio.get_running_loop().time() - began_s
        assert house.heard[ANNA].lost == [(BEN, "steps", "silent")] * 3
        assert waited_s >= 3 * SETTINGS.silent_after_s
        house.network.mend(BEN, ANNA)
        await house.heard[ANNA].until(lambda heard: len(heard.lost) == 4)
        assert house.heard[ANNA].lost[-1] == (BEN, "steps", "closed")

    in_house(test)


def test_a_large_message_is_given_the_time_its_bytes_may_take():
    async def test(house):
        house[ANNA].connect(BEN)
        await house.heard[ANNA].until(lambda heard: heard.opened)
        size = 20 * int(SETTINGS.slowest_link_bytes_per_s)  # 20 seconds on the slowest link
        large = replace(step(0, 0, [1]), tensor=TensorFrame("fp32", (1, size // 4), bytes(size)))
        house.network.cut(ANNA, BEN)
        house[ANNA].send(BEN, large)
        await asyncio.sleep(20)
        assert house.heard[ANNA].lost == []
        await asyncio.sleep(2)
        assert house.heard[ANNA].lost[0] == (BEN, "steps", "silent")

    in_house(test)


def test_bytes_that_have_arrived_buy_no_more_time():
    async def test(house):
        size = 4 * int(SETTINGS.slowest_link_bytes_per_s)
        large = replace(step(0, 0, [1]), tensor=TensorFrame("fp32", (1, size // 4), bytes(size)))
        for _ in range(100):  # always one on its way, so that never everything is confirmed
            house[ANNA].send(BEN, large)
            await asyncio.sleep(0.015)
        house.network.cut(BEN, ANNA)
        house[ANNA].send(BEN, large)
        await asyncio.sleep(15)  # 400 s worth of bytes were sent, 8 s at most are not confirmed
        assert (BEN, "steps", "silent") in house.heard[ANNA].lost

    in_house(test, settings=Settings(step_credits=64))


FAR = Path(latency_s=0.5)
EITHER = pytest.mark.parametrize("speaker", [ANNA, BEN], ids=["who dialled", "who was dialled"])


async def talk(house, speaker, messages: int = 60) -> float:
    """Many messages at many moments of the watch; returns the time when all are confirmed."""
    house[ANNA].connect(BEN)
    await house.heard[BEN].until(lambda heard: heard.opened)
    listener = BEN if speaker == ANNA else ANNA
    for number in range(messages):
        await asyncio.sleep(0.13 if number % 7 else 3.1)
        house[speaker].send(listener, step(number, number, [1]))
    await house.heard[listener].until(lambda heard: len(heard.messages) == messages)
    await asyncio.sleep(5)
    return asyncio.get_running_loop().time()


@EITHER
def test_a_link_round_half_the_world_and_back_loses_nothing(speaker):
    async def test(house):
        await talk(house, speaker)
        assert house.heard[ANNA].lost == house.heard[BEN].lost == []

    in_house(test, path=FAR, settings=Settings())


@pytest.mark.parametrize("late_s", [0.0, 0.06, 0.12, 0.18])
@EITHER
def test_the_first_message_over_a_long_way_is_no_loss_either(speaker, late_s):
    async def test(house):
        house[ANNA].connect(BEN)
        await house.heard[speaker].until(lambda heard: heard.opened)
        await asyncio.sleep(late_s)
        house[speaker].send(BEN if speaker == ANNA else ANNA, step(0, 0, [1]))
        await asyncio.sleep(10)
        assert house.heard[ANNA].lost == house.heard[BEN].lost == []

    in_house(test, path=FAR, settings=Settings())


@EITHER
def test_a_cut_of_a_long_way_is_noticed_within_a_few_times_the_usual(speaker):
    async def test(house):
        began_s = await talk(house, speaker)
        house.network.cut(ANNA, BEN)
        house.network.cut(BEN, ANNA)
        house[speaker].send(BEN if speaker == ANNA else ANNA, step(99, 99, [1]))
        await house.heard[speaker].until(lambda heard: heard.lost)
        waited_s = asyncio.get_running_loop().time() - began_s
        assert 1.0 < waited_s < 1.5 * SETTINGS.silent_factor * 2 * FAR.latency_s

    in_house(test, path=FAR, settings=Settings())


def test_a_cut_of_a_short_way_is_noticed_soon_after_the_least_silence():
    async def test(house):
        began_s = await talk(house, ANNA)
        house.network.cut(ANNA, BEN)
        house[ANNA].send(BEN, step(99, 99, [1]))
        await house.heard[ANNA].until(lambda heard: heard.lost)
        waited_s = asyncio.get_running_loop().time() - began_s
        assert SETTINGS.silent_after_s < waited_s < SETTINGS.silent_after_s + 0.6

    in_house(test, settings=Settings())


def test_a_watch_that_ran_late_itself_blames_nobody():
    async def test(house):
        await talk(house, ANNA)
        house[ANNA].send(BEN, step(99, 99, [1]))
        await asyncio.sleep(0.001)  # it is on its way, as the lid is closed
        house.slept_s += 100.0
        await asyncio.sleep(10)
        assert house.heard[ANNA].lost == house.heard[BEN].lost == []

    # so slow that a watch comes between the message and its confirmation
    in_house(test, path=Path(latency_s=0.2), settings=Settings())
