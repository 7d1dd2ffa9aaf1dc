"""Links in memory: the transport's conformance, and the delays and faults put on its paths."""

from __future__ import annotations

import asyncio
import random

import pytest

from manyhands.errors import PeerLost
from manyhands.net.memory import MemoryConnection, MemoryNetwork, Path
from manyhands.sim.virtual_loop import run_virtual
from manyhands.wire.frame import Frame, Kind
from transport_conformance import ANNA, BEN, CLEO, TransportConformance, drain, frame, said

LATENCY = Path(latency_s=0.01)


class TestMemoryTransport(TransportConformance):
    path = Path()

    def run(self, main):
        self.network = MemoryNetwork(random.Random(5), self.path)
        run_virtual(main)

    async def transports(self, keys):
        return [self.network.transport(pair.peer) for pair in keys]

    async def nowhere(self):
        return f"memory:{BEN}"


class TestMemoryTransportOnSlowLossyPaths(TestMemoryTransport):
    path = Path(latency_s=0.02, rate_bytes_per_s=1e7, loss=0.2)


class TestMemoryTransportOnARealLoop(TestMemoryTransport):
    def run(self, main):
        self.network = MemoryNetwork(random.Random(5), self.path)
        asyncio.run(main())


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def connect(
    network: MemoryNetwork, source=ANNA, target=BEN
) -> tuple[MemoryConnection, MemoryConnection]:
    """A connection's two ends; `target` stops listening again."""
    accepted = []
    listening = network.transport(target)
    address = await listening.listen(accepted.append)
    here = await network.transport(source).dial(address, target)
    network.stop_listening(target, network._listening[target])
    return here, accepted[0]


async def arrivals(connection: MemoryConnection, count: int) -> list[tuple[str, float]]:
    """(text, time) of the next frames."""
    return [(said(await connection.receive())[1], now_s()) for _ in range(count)]


def over(path: Path, test, seed: int = 1) -> None:
    """Run `test(network, here, there)` on a fresh network."""

    async def main():
        network = MemoryNetwork(random.Random(seed), path)
        here, there = await connect(network)
        await test(network, here, there)

    run_virtual(main)


def test_latency_is_one_way_and_a_dial_takes_a_round_trip():
    async def test(network, here, there):
        assert now_s() == pytest.approx(0.02)
        here.send(frame("a"))
        await asyncio.sleep(0.005)
        here.send(frame("b"))
        assert await arrivals(there, 2) == [
            ("a", pytest.approx(0.03)),
            ("b", pytest.approx(0.035)),
        ]

    over(LATENCY, test)


def test_each_direction_has_its_own_path():
    async def test(network, here, there):
        network.set_path(BEN, ANNA, Path(latency_s=1.0))
        began_s = now_s()
        here.send(frame("quick"))
        assert await arrivals(there, 1) == [("quick", pytest.approx(began_s + 0.01))]
        there.send(frame("slow"))
        assert await arrivals(here, 1) == [("slow", pytest.approx(began_s + 1.01))]

    over(LATENCY, test)


def test_a_frame_takes_its_bytes_over_the_rate_and_the_next_one_waits_for_it():
    async def test(network, here, there):
        one = frame("x", bytes(9_989))
        assert one.size == 10_000
        here.send(one)
        here.send(one)
        assert await arrivals(there, 2) == [
            ("x", pytest.approx(0.02 + 1.01)),
            ("x", pytest.approx(0.02 + 2.01)),
        ]
        await asyncio.sleep(10)  # an idle path saves nothing up
        began_s = now_s()
        here.send(one)
        assert await arrivals(there, 1) == [("x", pytest.approx(began_s + 1.01))]

    over(Path(latency_s=0.01, rate_bytes_per_s=10_000), test)


def test_lost_frames_come_late_and_hold_up_those_behind_them():
    path = Path(latency_s=0.001, loss=0.1)
    chance = random.Random(1)
    first_lost = next(number for number in range(99) if chance.random() < path.loss)
    assert first_lost > 1

    async def test(network, here, there):
        for number in range(100):
            here.send(frame(str(number)))
        got = await arrivals(there, 100)
        assert [text for text, _ in got] == [str(number) for number in range(100)]
        in_time = [when for _, when in got if when < path.resend_after_s]
        assert len(in_time) == first_lost

    over(path, test, seed=1)


def test_the_same_seed_gives_the_same_arrival_times_and_another_seed_others():
    def times(seed: int) -> list[tuple[str, float]]:
        got = []

        async def test(network, here, there):
            for number in range(50):
                here.send(frame(str(number)))
                got.extend(await arrivals(there, 1))

        over(Path(latency_s=0.001, loss=0.3), test, seed)
        return got

    assert times(7) == times(7)
    assert times(7) != times(8)


def test_frames_over_a_cut_vanish_and_nobody_is_told():
    async def test(network, here, there):
        network.cut(ANNA, BEN)
        here.send(frame("lost"))
        there.send(frame("the other way is whole"))
        assert said(await here.receive())[1] == "the other way is whole"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await there.receive()

    over(LATENCY, test)


def test_mending_resets_a_connection_that_lost_frames():
    async def test(network, here, there):
        network.cut(ANNA, BEN)
        here.send(frame("lost"))
        network.mend(ANNA, BEN)
        here.send(frame("too late"))
        assert await drain(here) == []
        assert await drain(there) == []

    over(LATENCY, test)


def test_mending_tells_the_other_end_of_a_close_that_was_lost():
    async def test(network, here, there):
        network.cut(ANNA, BEN)
        here.close()
        network.mend(ANNA, BEN)
        assert await drain(there) == []

    over(LATENCY, test)


def test_mending_leaves_a_connection_alone_that_lost_nothing():
    async def test(network, here, there):
        network.cut(ANNA, BEN)
        network.mend(ANNA, BEN)
        network.cut(ANNA, CLEO)
        network.mend(ANNA, CLEO)
        here.send(frame("whole"))
        assert said(await there.receive())[1] == "whole"

    over(LATENCY, test)


def test_a_dial_over_a_cut_waits_until_it_is_mended():
    async def main():
        network = MemoryNetwork(random.Random(1), LATENCY)
        await network.transport(BEN).listen(lambda connection: None)
        network.cut(BEN, ANNA)
        asyncio.get_running_loop().call_later(5.0, network.mend, BEN, ANNA)
        await network.transport(ANNA).dial(f"memory:{BEN}", BEN)
        assert 5.0 <= now_s() < 5.5

    run_virtual(main)


@pytest.mark.parametrize("held", [ANNA, BEN])
def test_frames_to_and_from_a_held_peer_wait_and_come_in_order_to_the_right_end(held):
    async def test(network, here, there):
        here.send(frame("0"))
        there.send(frame("back 0"))
        network.hold(held)
        here.send(frame("1"))
        there.send(frame("back 1"))
        await asyncio.sleep(100)
        here.send(frame("2"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await there.receive()
        network.release(held)
        here.send(frame("3"))
        assert [text for text, _ in await arrivals(there, 4)] == ["0", "1", "2", "3"]
        assert [text for text, _ in await arrivals(here, 2)] == ["back 0", "back 1"]

    over(LATENCY, test)


@pytest.mark.parametrize("first", [ANNA, BEN])
def test_with_both_ends_held_nothing_moves_until_both_are_released(first):
    async def test(network, here, there):
        network.hold(ANNA)
        here.send(frame("1"))
        await asyncio.sleep(1)
        network.hold(BEN)
        here.send(frame("2"))
        await asyncio.sleep(1)
        network.release(first)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await there.receive()
        network.release(BEN if first == ANNA else ANNA)
        assert [text for text, _ in await arrivals(there, 2)] == ["1", "2"]

    over(LATENCY, test)


@pytest.mark.parametrize("held", [ANNA, BEN])
def test_a_dial_waits_for_a_held_peer(held):
    async def main():
        network = MemoryNetwork(random.Random(1), LATENCY)
        await network.transport(BEN).listen(lambda connection: None)
        network.hold(held)
        asyncio.get_running_loop().call_later(5.0, network.release, held)
        await network.transport(ANNA).dial(f"memory:{BEN}", BEN)
        assert now_s() >= 5.0

    run_virtual(main)


def test_a_reset_ends_both_ends_of_all_connections_of_a_peer_at_once():
    async def test(network, here, there):
        to_cleo, at_cleo = await connect(network, BEN, CLEO)
        aside, at_aside = await connect(network, ANNA, CLEO)
        here.send(frame("under way"))
        network.reset(BEN)
        for connection in (here, there, to_cleo, at_cleo):
            assert await drain(connection) == []
        aside.send(frame("not touched"))
        assert said(await at_aside.receive())[1] == "not touched"

    over(LATENCY, test)


def test_a_reset_peer_listens_no_more():
    async def main():
        network = MemoryNetwork(random.Random(1))
        address = await network.transport(BEN).listen(lambda connection: None)
        network.reset(BEN)
        with pytest.raises(PeerLost):
            await network.transport(ANNA).dial(address, BEN)

    run_virtual(main)


def test_closing_the_transport_of_a_former_life_leaves_the_new_one_listening():
    async def main():
        network = MemoryNetwork(random.Random(1))
        old = network.transport(BEN)
        await old.listen(lambda connection: None)
        network.reset(BEN)
        address = await network.transport(BEN).listen(lambda connection: None)
        await old.close()
        await network.transport(ANNA).dial(address, BEN)

    run_virtual(main)


def test_the_observer_sees_every_frame_as_it_is_sent():
    async def test(network, here, there):
        seen = []
        network.observer = lambda source, target, data: seen.append((source, target, data))
        here.send(frame("a", b"payload"))
        there.send(Frame(Kind.ACK, b""))
        network.cut(ANNA, BEN)
        here.send(frame("lost, and seen"))
        assert [ends[:2] for ends in seen] == [(ANNA, BEN), (BEN, ANNA), (ANNA, BEN)]
        assert seen[0][2].endswith(b"apayload")
        here.close()
        here.send(frame("after the end"))
        assert len(seen) == 3

    over(LATENCY, test)
