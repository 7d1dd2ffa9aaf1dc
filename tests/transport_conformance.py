"""What every transport must do, as one class of tests; a new transport is one subclass of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from manyhands.errors import PeerLost, UserError
from manyhands.net.transport import Connection, Transport
from manyhands.trust.signature import KeyPair
from manyhands.wire.frame import Frame, Kind

KEYS = tuple(KeyPair.from_seed(bytes([number]) * 32) for number in range(1, 4))
"""Keys of the peers of a test: a transport that proves who is there needs the private half too."""

ANNA, BEN, CLEO = (keys.peer for keys in KEYS)
LARGE_BYTES = 5 << 20


def frame(text: str, payload: bytes = b"") -> Frame:
    """A frame that says `text`."""
    return Frame(Kind.RESULT, text.encode(), (payload,) if payload else ())


def said(got: Frame) -> tuple[int, str, bytes]:
    """Kind, text and payload of a frame, however its payload is cut."""
    return int(got.kind), got.header.decode(), b"".join(got.payload)


async def drain(connection: Connection) -> list[str]:
    """Texts of all frames until the connection ends."""
    texts = []
    while True:
        try:
            texts.append(said(await connection.receive())[1])
        except PeerLost:
            return texts


class Answering:
    """A listening transport; `accepted()` gives the connections dialled to it, in order."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.address = ""
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def start(self) -> Answering:
        self.address = await self.transport.listen(self._connections.put_nowait)
        return self

    async def accepted(self) -> Connection:
        return await self._connections.get()

    @property
    def has_none(self) -> bool:
        return self._connections.empty()


class TransportConformance:
    """Subclass it as `TestX` and give `run` and `transports`; see tests/net/test_memory.py."""

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run one test to its end, on whatever loop the transport needs."""
        raise NotImplementedError

    async def transports(self, keys: tuple[KeyPair, ...]) -> list[Transport]:
        """One transport a key, all able to reach each other; none listens yet."""
        raise NotImplementedError

    async def nowhere(self) -> str:
        """An address, well formed, at which nobody answers."""
        raise NotImplementedError

    def with_pair(
        self, test: Callable[[Connection, Connection], Coroutine[Any, Any, None]]
    ) -> None:
        """Run `test` with the two ends of a connection from Anna to Ben."""

        async def main() -> None:
            anna, ben = await self.transports(KEYS[:2])
            answering = await Answering(ben).start()
            here = await anna.dial(answering.address, BEN)
            there = await answering.accepted()
            try:
                await test(here, there)
            finally:
                await anna.close()
                await ben.close()

        self.run(main)

    def test_both_sides_know_whom_they_talk_to(self):
        async def test(here, there):
            assert here.remote == BEN
            assert there.remote == ANNA

        self.with_pair(test)

    def test_frames_arrive_whole_and_in_order_both_ways(self):
        async def test(here, there):
            for number in range(20):
                here.send(frame(f"to {number}", bytes([number]) * number))
                there.send(frame(f"fro {number}", bytes(number)))
            for number in range(20):
                to, fro = await there.receive(), await here.receive()
                assert said(to) == (Kind.RESULT, f"to {number}", bytes([number]) * number)
                assert said(fro) == (Kind.RESULT, f"fro {number}", bytes(number))

        self.with_pair(test)

    def test_a_frame_of_several_buffers_arrives_as_their_join(self):
        async def test(here, there):
            parts = (b"one", bytearray(b"two"), memoryview(b"three"))
            here.send(Frame(Kind.STEP, b"parts", parts))
            assert said(await there.receive()) == (Kind.STEP, "parts", b"onetwothree")

        self.with_pair(test)

    def test_an_empty_payload_and_an_empty_header_arrive(self):
        async def test(here, there):
            here.send(Frame(Kind.ACK, b""))
            here.send(frame("after"))
            assert said(await there.receive()) == (Kind.ACK, "", b"")
            assert said(await there.receive()) == (Kind.RESULT, "after", b"")

        self.with_pair(test)

    def test_a_large_frame_arrives_and_those_behind_it_stay_behind(self):
        async def test(here, there):
            large = bytes(range(256)) * (LARGE_BYTES // 256)
            here.send(frame("large", large))
            here.send(frame("small"))
            assert said(await there.receive()) == (Kind.RESULT, "large", large)
            assert said(await there.receive())[1] == "small"

        self.with_pair(test)

    def test_many_small_frames_arrive_all(self):
        async def test(here, there):
            count = 3000
            for number in range(count):
                here.send(frame(str(number)))
            got = [said(await there.receive())[1] for _ in range(count)]
            assert got == [str(number) for number in range(count)]

        self.with_pair(test)

    def test_send_does_not_wait_for_a_reader(self):
        async def test(here, there):
            for _ in range(8):
                here.send(frame("unread", bytes(1 << 20)))
            there.send(frame("meanwhile"))
            assert said(await here.receive())[1] == "meanwhile"

        self.with_pair(test)

    def test_close_delivers_what_was_queued_then_both_sides_end(self):
        async def test(here, there):
            for number in range(50):
                here.send(frame(str(number), bytes(10_000)))
            here.close()
            assert await drain(there) == [str(number) for number in range(50)]
            assert await drain(here) == []

        self.with_pair(test)

    def test_frames_that_had_arrived_are_read_after_the_other_side_closed(self):
        async def test(here, there):
            there.send(frame("first"))
            there.send(frame("second"))
            assert said(await here.receive())[1] == "first"
            there.close()
            assert await drain(here) == ["second"]
            with pytest.raises(PeerLost):
                await here.receive()  # and again: it stays ended

        self.with_pair(test)

    def test_frames_sent_after_the_end_go_nowhere_without_an_error(self):
        async def test(here, there):
            here.send(frame("before"))
            here.close()
            here.send(frame("after"))
            assert await drain(there) == ["before"]
            there.send(frame("to nobody"))
            there.close()
            here.close()
            assert await drain(here) == []

        self.with_pair(test)

    def test_a_cancelled_receive_loses_nothing(self):
        async def test(here, there):
            got = []
            for turns in range(20):
                async with asyncio.TaskGroup() as tasks:
                    receiving = tasks.create_task(there.receive())
                    await asyncio.sleep(0)
                    here.send(frame(str(turns)))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    receiving.cancel()
                # the cancellation came before the frame, with it or after it; it is there anyway
                cancelled = receiving.cancelled()
                got.append(said(await there.receive() if cancelled else receiving.result())[1])
            assert got == [str(turns) for turns in range(20)]

        self.with_pair(test)

    def test_two_connections_of_the_same_pair_are_independent(self):
        async def main() -> None:
            anna, ben = await self.transports(KEYS[:2])
            answering = await Answering(ben).start()
            first = await anna.dial(answering.address, BEN)
            other_first = await answering.accepted()
            second = await anna.dial(answering.address, BEN)
            other_second = await answering.accepted()
            first.send(frame("on the first"))
            second.send(frame("on the second"))
            other_second.send(frame("back on the second"))
            assert said(await other_second.receive())[1] == "on the second"
            assert said(await other_first.receive())[1] == "on the first"
            first.close()
            assert await drain(other_first) == []
            second.send(frame("still"))
            assert said(await other_second.receive())[1] == "still"
            assert said(await second.receive())[1] == "back on the second"
            await anna.close()
            await ben.close()

        self.run(main)

    def test_a_peer_dials_and_answers_at_the_same_time(self):
        async def main() -> None:
            transports = await self.transports(KEYS)
            answering = [await Answering(transport).start() for transport in transports]
            dialled = {}
            for source in range(3):
                for target in range(3):
                    if source != target:
                        connection = await transports[source].dial(
                            answering[target].address, KEYS[target].peer
                        )
                        assert connection.remote == KEYS[target].peer
                        connection.send(frame(f"{source} to {target}"))
                        dialled[source, target] = connection
            for target in range(3):
                heard = set()
                for _ in range(2):
                    connection = await answering[target].accepted()
                    heard.add((connection.remote, said(await connection.receive())[1]))
                others = [source for source in range(3) if source != target]
                assert heard == {(KEYS[s].peer, f"{s} to {target}") for s in others}
            for transport in transports:
                await transport.close()

        self.run(main)

    def test_dialling_where_nobody_listens_is_a_lost_peer(self):
        async def main() -> None:
            anna, ben = await self.transports(KEYS[:2])
            with pytest.raises(PeerLost):
                await anna.dial(await self.nowhere(), BEN)
            await anna.close()
            await ben.close()

        self.run(main)

    def test_dialling_a_peer_where_another_answers_is_a_lost_peer(self):
        async def main() -> None:
            anna, ben, cleo = await self.transports(KEYS)
            answering = await Answering(cleo).start()
            at_ben = await Answering(ben).start()
            with pytest.raises(PeerLost):
                await anna.dial(answering.address, BEN)
            assert at_ben.has_none
            connection = await anna.dial(answering.address, CLEO)
            assert connection.remote == CLEO  # the refused dial did it no harm
            for transport in (anna, ben, cleo):
                await transport.close()

        self.run(main)

    def test_listening_twice_is_the_users_error_and_the_first_stays(self):
        async def main() -> None:
            anna, ben = await self.transports(KEYS[:2])
            answering = await Answering(ben).start()
            again = Answering(ben)
            with pytest.raises(UserError):
                await again.start()
            await anna.dial(answering.address, BEN)
            assert (await answering.accepted()).remote == ANNA
            assert again.has_none
            await ben.close()
            with pytest.raises(PeerLost):
                await anna.dial(answering.address, BEN)
            await anna.close()

        self.run(main)

    def test_close_ends_every_connection_and_stops_listening(self):
        async def main() -> None:
            anna, ben, cleo = await self.transports(KEYS)
            at_ben = await Answering(ben).start()
            at_cleo = await Answering(cleo).start()
            from_anna = await anna.dial(at_ben.address, BEN)
            accepted = await at_ben.accepted()
            to_cleo = await ben.dial(at_cleo.address, CLEO)
            at_its_end = await at_cleo.accepted()
            accepted.send(frame("last words"))
            to_cleo.send(frame("last words"))
            await ben.close()
            assert await drain(from_anna) == ["last words"]
            assert await drain(at_its_end) == ["last words"]
            assert await drain(accepted) == []
            assert await drain(to_cleo) == []
            with pytest.raises(PeerLost):
                await anna.dial(at_ben.address, BEN)
            connection = await anna.dial(at_cleo.address, CLEO)
            assert connection.remote == CLEO  # others are not touched
            await ben.close()  # once more is no error
            await anna.close()
            await cleo.close()

        self.run(main)

    def test_a_peer_that_closed_can_come_back(self):
        async def main() -> None:
            anna, ben = await self.transports(KEYS[:2])
            first = await Answering(ben).start()
            await ben.close()
            (again,) = await self.transports(KEYS[1:2])
            answering = await Answering(again).start()
            connection = await anna.dial(answering.address, BEN)
            connection.send(frame("welcome back"))
            there = await answering.accepted()
            assert said(await there.receive())[1] == "welcome back"
            assert first.has_none
            await anna.close()
            await again.close()

        self.run(main)
