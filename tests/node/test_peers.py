"""Connections of real Peers over links in memory: dialled on demand, one a lane, in order."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from manyhands.domain.messages import Ack, Goodbye, Hello, Renew
from manyhands.domain.settings import Settings
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Step
from manyhands.errors import FrameError, ProtocolError
from manyhands.net.memory import MemoryNetwork, Path
from manyhands.node.peers import Peers
from manyhands.sim.virtual_loop import run_virtual
from manyhands.wire.frame import Frame, Kind
from manyhands.wire.schema import decode, encode
from node_cases import OTHER, SESSION, step
from peers_house import SETTINGS, Heard, announce, beat, in_house
from transport_conformance import ANNA, BEN, CLEO, Answering, drain


def test_nothing_is_dialled_before_something_is_sent():
    async def test(house):
        await asyncio.sleep(100)
        assert house.frames == []

    in_house(test)


def test_a_message_dials_and_both_ways_use_the_one_connection():
    async def test(house):
        for number in range(5):
            house[ANNA].send(BEN, beat(number))
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 5)
        house[BEN].send(ANNA, beat(9))
        await house.heard[ANNA].until(lambda heard: heard.messages)
        assert house.heard[BEN].messages == [(ANNA, beat(number)) for number in range(5)]
        assert house.heard[ANNA].messages == [(BEN, beat(9))]
        assert sorted(house.sent(Hello)) == sorted([(ANNA, BEN), (BEN, ANNA)])
        assert house.heard[ANNA].opened == [(BEN, "steps")]
        assert house.heard[BEN].opened == [(ANNA, "steps")]
        assert house[ANNA].connected("steps") == (BEN,)
        assert house[ANNA].connected("bulk") == ()

    in_house(test)


def test_connect_opens_the_connection_for_steps_without_a_message():
    async def test(house):
        house[ANNA].connect(BEN)
        house[ANNA].connect(BEN)
        house[ANNA].connect(ANNA)
        await house.heard[ANNA].until(lambda heard: heard.opened)
        assert house.heard[ANNA].opened == [(BEN, "steps")]
        assert house.heard[BEN].messages == []

    in_house(test)


@pytest.mark.parametrize("late_s", [0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05])
def test_simultaneous_dials_keep_one_connection_and_lose_nothing(late_s):
    async def test(house):
        for number in range(5):
            house[ANNA].send(BEN, beat(number))
        await asyncio.sleep(late_s)
        for number in range(5):
            house[BEN].send(ANNA, beat(10 + number))
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 5)
        await house.heard[ANNA].until(lambda heard: len(heard.messages) == 5)
        await asyncio.sleep(10)
        house[ANNA].send(BEN, beat(5))
        house[BEN].send(ANNA, beat(15))
        await asyncio.sleep(10)
        assert house.heard[BEN].numbers() == [0, 1, 2, 3, 4, 5]
        assert house.heard[ANNA].numbers() == [10, 11, 12, 13, 14, 15]
        assert house.heard[ANNA].lost == house.heard[BEN].lost == []
        assert len(house.network._open) == 2  # the two ends of one connection

    in_house(test)


@pytest.mark.parametrize("seed", [1, 2, 3, 18, 45, 60])
def test_of_simultaneous_dials_the_refusal_may_come_before_the_hello_of_the_one_that_stays(seed):
    async def test(house):
        house.network.chance = random.Random(seed)
        house[ANNA].send(BEN, beat(0))
        await asyncio.sleep(random.Random(seed).random() * 0.06)
        house[BEN].send(ANNA, beat(1))
        await asyncio.sleep(30)
        house[ANNA].send(BEN, beat(2))
        house[BEN].send(ANNA, beat(3))
        await asyncio.sleep(30)
        assert house.heard[BEN].numbers() == [0, 2]
        assert house.heard[ANNA].numbers() == [1, 3]
        losses = [loss for name in (ANNA, BEN) for _, _, loss in house.heard[name].lost]
        assert "closed" not in losses
        assert len(house.network._open) == 2

    in_house(test, path=Path(latency_s=0.01, loss=0.4))


def test_large_and_slow_messages_have_a_connection_of_their_own():
    async def test(house):
        house[ANNA].send(BEN, beat(0))
        house[ANNA].send(BEN, announce())
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 2)
        assert sorted(house.heard[BEN].opened) == [(ANNA, "bulk"), (ANNA, "steps")]
        lanes = [frame[2].lane for frame in house.frames if type(frame[2]) is Hello]
        assert sorted(lanes) == ["bulk", "bulk", "steps", "steps"]
        assert house[BEN].connected("bulk") == (ANNA,)
        assert len(house.network._open) == 4

    in_house(test)


def test_a_message_to_oneself_arrives_without_a_link():
    async def test(house):
        house[ANNA].send(ANNA, beat(1))
        assert house.heard[ANNA].messages == []  # never within the call of send
        await house.heard[ANNA].until(lambda heard: heard.messages)
        assert house.heard[ANNA].messages == [(ANNA, beat(1))]
        assert house.frames == []

    in_house(test)


def test_a_reset_is_told_to_both_and_the_next_message_dials_anew():
    async def test(house):
        house[ANNA].send(BEN, beat(0))
        await house.heard[BEN].until(lambda heard: heard.messages)
        for connection in list(house.network._open):
            connection.reset()
        await house.heard[ANNA].until(lambda heard: heard.lost)
        await house.heard[BEN].until(lambda heard: heard.lost)
        assert house.heard[ANNA].lost == [(BEN, "steps", "closed")]
        assert house.heard[BEN].lost == [(ANNA, "steps", "closed")]
        assert house[ANNA].connected("steps") == ()
        house[BEN].send(ANNA, beat(1))
        await house.heard[ANNA].until(lambda heard: heard.messages)
        house[ANNA].send(BEN, beat(2))
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 2)
        assert len(house.network._open) == 2

    in_house(test)


def test_a_receiver_that_works_nothing_off_gets_its_credits_in_steps_and_all_control():
    async def test(house):
        for number in range(20):
            house[ANNA].send(BEN, step(number, number, [1]))
        for number in range(20):
            house[ANNA].send(BEN, Renew(SESSION if number % 2 else OTHER))
        heard = house.heard[BEN]
        await heard.until(lambda heard: len(heard.messages) == SETTINGS.step_credits + 20)
        await asyncio.sleep(10)
        assert [m.sequence for _, m in heard.messages if isinstance(m, Step)] == [0, 1, 2, 3]
        for done in heard.kept:
            done()
        await heard.until(lambda heard: len(heard.kept) == 8)
        await asyncio.sleep(10)
        assert [m.sequence for _, m in heard.messages if isinstance(m, Step)] == list(range(8))

    in_house(test, keeps_steps=True)


def test_a_receiver_that_works_off_gets_every_step_in_order():
    async def test(house):
        for number in range(50):
            house[ANNA].send(BEN, step(number, number, [1]))
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 50)
        assert house.heard[BEN].numbers() == list(range(50))

    in_house(test)


def test_confirmations_wait_for_each_other_but_not_for_long():
    async def test(house):
        every_s = SETTINGS.confirm_within_s / 5
        for number in range(20):
            house[ANNA].send(BEN, step(number, number, [1]))
            await asyncio.sleep(every_s)
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 20)
        await asyncio.sleep(SETTINGS.confirm_within_s)
        counts = [frame[2].count for frame in house.frames if type(frame[2]) is Ack]
        assert counts[-1] == 20
        assert len(counts) <= 5

    in_house(test, settings=Settings())


def test_an_answer_takes_the_confirmation_along():
    async def test(house):
        house[ANNA].send(BEN, step(0, 0, [1]))
        await house.heard[BEN].until(lambda heard: heard.messages)
        house[BEN].send(ANNA, beat(1))
        await house.heard[ANNA].until(lambda heard: heard.messages)
        assert house.sent(Ack) == [(BEN, ANNA)]
        await asyncio.sleep(10 * SETTINGS.confirm_within_s)
        assert house.sent(Ack) == [(BEN, ANNA)]

    in_house(test)


def test_work_of_a_connection_that_is_gone_frees_no_place_on_the_next():
    async def test(house):
        house[ANNA].send(BEN, step(0, 0, [1]))
        await house.heard[BEN].until(lambda heard: heard.kept)
        for connection in list(house.network._open):
            connection.reset()
        await house.heard[BEN].until(lambda heard: heard.lost)
        house[ANNA].send(BEN, beat(1))
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 2)
        house.heard[BEN].kept.pop()()
        house[BEN].send(ANNA, beat(2))
        await house.heard[ANNA].until(lambda heard: heard.messages)
        assert len(house.heard[ANNA].lost) == 1  # only the reset; the stream was not harmed

    in_house(test, keeps_steps=True)


def hello(**changes) -> Hello:
    return replace(Hello(CLEO, 1, 1, "steps", 4, "test"), **changes)


GARBAGE = {
    "no hello first": beat(1),
    "a hello in another's name": hello(peer=ANNA),
    "versions we do not speak": hello(first_version=7, last_version=9),
}


@pytest.mark.parametrize("first", GARBAGE.values(), ids=GARBAGE)
def test_a_first_frame_that_is_no_proper_hello_is_refused(first):
    async def test(house):
        stranger = house.network.transport(CLEO)
        connection = await stranger.dial(f"memory:{BEN}", BEN)
        connection.send(encode(first))
        connection.send(encode(beat(2)))
        await drain(connection)  # it is closed from the other side
        assert house.heard[BEN].opened == house.heard[BEN].messages == []
        house[ANNA].send(BEN, beat(3))
        await house.heard[BEN].until(lambda heard: heard.messages)

    in_house(test)


def test_a_first_frame_that_is_no_message_is_refused():
    async def test(house):
        connection = await house.network.transport(CLEO).dial(f"memory:{BEN}", BEN)
        connection.send(Frame(Kind.HELLO, b"{not json"))
        assert await drain(connection) == []
        assert house.heard[BEN].opened == []

    in_house(test)


def test_a_connection_that_says_nothing_is_closed_at_the_dial_deadline():
    async def test(house):
        connection = await house.network.transport(CLEO).dial(f"memory:{BEN}", BEN)
        assert await drain(connection) == []
        now_s = asyncio.get_running_loop().time()
        assert now_s == pytest.approx(SETTINGS.dial_deadline_s, abs=0.1)

    in_house(test)


def test_garbage_on_an_open_connection_ends_it_with_a_reason_and_the_loss_is_told():
    async def test(house):
        connection = await house.network.transport(CLEO).dial(f"memory:{BEN}", BEN)
        connection.send(encode(hello()))
        connection.send(encode(beat(1)))
        await house.heard[BEN].until(lambda heard: heard.messages)
        connection.send(Frame(Kind.STEP, b"{}"))
        assert isinstance(decode(await connection.receive()), Hello)
        farewell = decode(await connection.receive())
        assert isinstance(farewell, Goodbye)
        assert farewell.code == "protocol"
        assert await drain(connection) == []
        await house.heard[BEN].until(lambda heard: heard.lost)
        assert house.heard[BEN].lost == [(CLEO, "steps", "closed")]

    in_house(test)


def test_a_step_beyond_the_credits_ends_the_connection():
    async def test(house):
        connection = await house.network.transport(CLEO).dial(f"memory:{BEN}", BEN)
        connection.send(encode(hello()))
        for number in range(SETTINGS.step_credits + 1):
            connection.send(encode(step(number, number, [1])))
        await house.heard[BEN].until(lambda heard: heard.lost)
        assert len(house.heard[BEN].messages) == SETTINGS.step_credits

    in_house(test, keeps_steps=True)


def test_a_goodbye_instead_of_a_hello_opens_nothing():
    async def test(house):
        house.names = (ANNA, BEN, CLEO)
        unfriendly = await Answering(house.network.transport(CLEO)).start()
        house[ANNA].send(CLEO, beat(1))
        connection = await unfriendly.accepted()
        connection.send(encode(Goodbye("version", "too old")))
        await house.heard[ANNA].until(lambda heard: heard.lost)
        assert house.heard[ANNA].lost == [(CLEO, "steps", "closed")]
        assert house.heard[ANNA].opened == []

    in_house(test)


def test_close_says_goodbye_and_ends_every_connection():
    async def test(house):
        house[ANNA].send(BEN, beat(0))
        house[ANNA].send(BEN, announce())
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 2)
        house[ANNA].send(BEN, beat(1))
        await house[ANNA].close()
        await house.heard[BEN].until(lambda heard: len(heard.lost) == 2)
        assert house.heard[BEN].numbers()[-1] == 1  # what was said before the goodbye arrived
        assert house.sent(Goodbye) == [(ANNA, BEN)] * 2
        assert house[ANNA].connected("steps") == house[BEN].connected("steps") == ()
        house.heard[ANNA].lost.clear()
        house[BEN].send(ANNA, beat(2))
        await house.heard[BEN].until(lambda heard: len(heard.lost) == 3)

    in_house(test)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_message_the_other_side_would_refuse_is_refused_where_it_was_made(is_open):
    async def test(house):
        if is_open:
            house[ANNA].connect(BEN)
            await house.heard[ANNA].until(lambda heard: heard.opened)
        with pytest.raises(ProtocolError):
            house[ANNA].send(BEN, beat(-1))
        large = TensorFrame("fp32", (1, 1 << 24), bytes(1 << 26))
        house[ANNA].send(BEN, replace(step(0, 0, [1]), tensor=large))
        with pytest.raises(FrameError):
            house[ANNA].send(BEN, replace(step(0, 0, [1]), tensor=large, allowed=large))
        house[ANNA].send(BEN, beat(1))
        await house.heard[BEN].until(lambda heard: len(heard.messages) == 2)
        assert house.heard[ANNA].lost == []

    in_house(test)


def test_what_is_sent_before_run_bars_no_way():
    async def main():
        network = MemoryNetwork(random.Random(1))
        clock = asyncio.get_running_loop().time
        heard = Heard(keeps_steps=False)
        ben = Peers(BEN, network.transport(BEN), clock, SETTINGS, lambda peer: None, heard)
        address = await ben.listen()
        anna = Peers(
            ANNA, network.transport(ANNA), clock, SETTINGS, lambda peer: address, Heard(False)
        )
        anna.connect(BEN)
        anna.send(BEN, beat(0))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(peers.run()) for peers in (anna, ben)]
            await asyncio.sleep(1)
            anna.send(BEN, beat(1))
            await heard.until(lambda heard: 1 in heard.numbers())
            for task in running:
                task.cancel()

    run_virtual(main)
