"""Places at a port: silent clients lose theirs soon, and no one address has them all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from itertools import chain, repeat

import pytest

from manyhands.net.accepting import SHARE, Accepting, origin


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.168.1.7", "192.168.1.7"),
        ("::ffff:192.168.1.7", "192.168.1.7"),
        ("2001:db8::7", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_places_are_counted_by_address_and_by_network_in_ipv6(host, name):
    assert origin(host) == name


@contextlib.asynccontextmanager
async def greeting(places, **options):
    """A port whose greeter says hello and stays until the client leaves."""
    loop = asyncio.get_running_loop()

    async def greet(client: socket.socket) -> None:
        with client:
            await loop.sock_sendall(client, b"hello")
            while await loop.sock_recv(client, 1000):
                pass

    accepting = Accepting(greet, places, **options)
    try:
        yield await accepting.open("127.0.0.1", 0)
    finally:
        accepting.stop()
        await accepting.stopped()


async def said_to(port: int, *, word: bytes) -> tuple[bytes, asyncio.StreamWriter]:
    """What one hears who says `word`: b"" when sent away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(word)
    try:
        async with asyncio.timeout(20):
            return await reader.read(5), writer
    except ConnectionError:
        return b"", writer


async def test_who_says_nothing_is_sent_away_and_who_speaks_is_greeted():
    async with greeting(1, first_byte_s=0.5) as port:
        for word, heard in ((b"", b""), (b"hi", b"hello"), (b"", b""), (b"hi", b"hello")):
            got, writer = await said_to(port, word=word)
            writer.close()
            assert got == heard


async def test_one_address_cannot_take_all_places():
    callers = chain(["mallory"] * 5, ["anna"], repeat("mallory"))
    async with greeting(3 * SHARE, origin=lambda _: next(callers)) as port:
        first = [await said_to(port, word=b"hi") for _ in range(5)]
        assert [got for got, _ in first] == [b"hello"] * 3 + [b""] * 2
        got, annas = await said_to(port, word=b"hi")
        assert got == b"hello"
        for _, writer in (*first, (b"", annas)):
            writer.close()
        got = b""
        while not got:  # as soon as the places are seen to be free
            got, writer = await said_to(port, word=b"hi")
            writer.close()


async def test_this_machine_may_take_all_places():
    async with greeting(SHARE) as port:
        callers = [await said_to(port, word=b"hi") for _ in range(SHARE)]
        assert [got for got, _ in callers] == [b"hello"] * SHARE
        for _, writer in callers:
            writer.close()


async def test_stopping_leaves_no_silent_client_open():
    async with greeting(4, first_byte_s=60.0) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
    writer.close()
