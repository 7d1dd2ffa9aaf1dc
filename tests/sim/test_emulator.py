"""The process of an emulated network: obeys, says what is wrong, ends with its input."""

from __future__ import annotations

import asyncio
import time

import pytest

from manyhands.errors import UserError
from manyhands.sim.emulator import Emulator
from manyhands.sim.shaping import Shape


async def test_a_gate_shaped_blocked_healed_and_cut():
    async def echo(reader, writer) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server, Emulator() as network:
        await network.shape(Shape(0.02, jitter_s=0.001))
        await network.shape(Shape(0.01), target="ben")
        gate = await network.gate("ben", server.sockets[0].getsockname()[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", gate)
        began_s = time.monotonic()
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        assert time.monotonic() - began_s >= 0.03
        await network.part("ben")
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await reader.read(1)
        await network.heal()
        assert await reader.readexactly(1) == b"b"
        assert await network.cut("ben") == 1
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)


async def test_what_cannot_be_done_is_said_and_the_rest_goes_on():
    async with Emulator() as network:
        for command, words in (("fly", {}), ("gate", {"name": "ben"}), ("cut", {"two": "ben"})):
            with pytest.raises(UserError, match=f"refused {command}"):
                await network._do(command, **words)
        assert await network.cut("nobody") == 0
    with pytest.raises(UserError, match="async with"):
        await Emulator().heal()
