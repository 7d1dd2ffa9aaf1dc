"""Emulated links over real sockets: delays and rates kept, bytes whole, faults where asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct

import pytest

from manyhands.sim.links import ANYBODY, IN_FLIGHT_BYTES, Links
from manyhands.sim.shaping import Shape

HERE = "127.0.0.1"


@contextlib.asynccontextmanager
async def house(answer=None):
    """Links, and streams of a connection over the gate of `ben`, dialled by `anna`: this process.

    Ben's end is given to `answer`; without one he echoes. Whatever goes wrong there is raised.
    """

    async def echo(reader, writer) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def greet(reader, writer) -> None:
        with contextlib.suppress(ConnectionError):
            await (answer or echo)(reader, writer)
        writer.close()

    async with asyncio.TaskGroup() as tasks, await asyncio.start_server(greet, HERE, 0) as server:
        links = Links(tasks, random.Random(0))
        links.know("anna", os.getpid())
        yield links, links.gate("ben", server.sockets[0].getsockname()[1])
        links.close()


@contextlib.asynccontextmanager
async def dialled(port: int):
    reader, writer = await asyncio.open_connection(HERE, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def trip_s(reader, writer) -> float:
    began_s = now_s()
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    return now_s() - began_s


async def test_bytes_pass_whole_and_the_end_of_each_direction_too():
    data = random.Random(1).randbytes(3_000_000)
    async with house() as (links, gate), dialled(gate) as (reader, writer):
        links.shape(Shape(0.002, 50e6, jitter_s=0.002, loss=1e-4))
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == data


async def test_a_round_trip_takes_both_delays_and_they_may_be_changed():
    async with house() as (links, gate):
        links.shape(Shape(0.03))
        links.shape(Shape(0.05), "ben", "anna")
        began_s = now_s()
        async with dialled(gate) as (reader, writer):
            await trip_s(reader, writer)
            assert now_s() - began_s >= 0.16  # the first is a greeting as well
            assert await trip_s(reader, writer) >= 0.08
            links.shape(Shape(0.001), "ben", "anna")
            assert await trip_s(reader, writer) >= 0.031


async def test_a_rate_holds_for_all_connections_of_a_direction_together():
    async def swallow(reader, writer) -> None:
        while await reader.read(1 << 16):
            pass

    async with house(swallow) as (links, gate):
        links.shape(Shape(rate_bytes_per_s=2e6, queue_bytes=1 << 14), "anna", "ben")

        async def send() -> None:
            async with dialled(gate) as (reader, writer):
                writer.write(bytes(300_000))
                writer.write_eof()
                assert await reader.read() == b""

        began_s = now_s()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            tasks.create_task(send())
        assert now_s() - began_s >= 0.29


async def test_who_does_not_read_makes_the_sender_wait():
    can_read = asyncio.Event()
    size_bytes = IN_FLIGHT_BYTES + (64 << 20)

    async def late(reader, writer) -> None:
        await can_read.wait()
        seen = 0
        while data := await reader.read(1 << 20):
            seen += len(data)
        writer.write(b"all" if seen == size_bytes else b"not")

    async with house(late) as (_, gate), dialled(gate) as (reader, writer):
        writer.write(bytes(size_bytes))
        await asyncio.sleep(0.3)
        assert writer.transport.get_write_buffer_size() > 1 << 20
        can_read.set()
        writer.write_eof()
        assert await reader.read() == b"all"


async def test_blocked_bytes_wait_in_one_direction_and_come_when_it_is_unblocked():
    heard = []

    async def hear(reader, writer) -> None:
        while data := await reader.read(100):
            heard.append(data)
            writer.write(data)

    async with house(hear) as (links, gate), dialled(gate) as (reader, writer):
        await trip_s(reader, writer)
        links.block("ben", ANYBODY)
        links.block("ben", "cleo")
        writer.write(b"heard")
        await asyncio.sleep(0.1)
        assert heard == [b"ping", b"heard"]
        links.block(ANYBODY, "ben")
        writer.write(b"later")
        await asyncio.sleep(0.1)
        assert len(heard) == 2
        links.unblock()
        assert await reader.readexactly(10) == b"heardlater"


async def test_a_dial_that_is_blocked_gets_nowhere_and_neither_does_its_end():
    met = asyncio.Queue()

    async def meet(reader, writer) -> None:
        met.put_nowait(await reader.read())

    async with house(meet) as (links, gate):
        links.block("anna", "ben")
        async with dialled(gate) as (_, writer):
            writer.write(b"hello")
            await asyncio.sleep(0.1)
        assert met.empty()
        links.unblock("anna", "ben")
        assert await met.get() == b"hello"


async def test_a_cut_resets_the_connections_of_two_and_no_others():
    async with house() as (links, gate), dialled(gate) as (reader, writer):
        await trip_s(reader, writer)
        assert links.cut("anna", "cleo") == 0
        await trip_s(reader, writer)
        assert links.cut("ben", "anna") == 1
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        async with dialled(gate) as again:
            await trip_s(*again)
            assert links.cut("anna") == 1


async def test_a_reset_by_one_side_reaches_the_other():
    ended = asyncio.Event()

    async def wait(reader, writer) -> None:
        writer.write(b"here")
        try:
            await reader.read()
        except ConnectionError:
            ended.set()

    async with house(wait) as (_, gate), dialled(gate) as (reader, writer):
        await reader.readexactly(4)
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        async with asyncio.timeout(10):
            await ended.wait()


async def test_a_gate_to_nobody_resets():
    with socket.create_server((HERE, 0)) as free:
        port = free.getsockname()[1]
    async with asyncio.TaskGroup() as tasks:
        links = Links(tasks, random.Random(0))
        reader, _ = await asyncio.open_connection(HERE, links.gate("nobody", port))
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        links.close()
