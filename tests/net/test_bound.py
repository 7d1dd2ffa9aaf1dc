"""The socket that listens: any free port, a taken one, none, and who comes before it is used."""

from __future__ import annotations

import asyncio
import socket

import pytest

from manyhands.errors import UserError
from manyhands.net.accepting import Accepting, bound

HOST = "127.0.0.1"
DEADLINE_S = 20.0


async def test_who_comes_before_connections_are_taken_is_greeted_then():
    listening = await bound(HOST, 0)
    place = listening.getsockname()
    with socket.create_connection(place, DEADLINE_S) as early:

        async def greet(client: socket.socket) -> None:
            with client:
                await asyncio.get_running_loop().sock_sendall(client, b"hello")

        accepting = Accepting(greet, 1, first_byte_s=None)
        assert accepting.take(listening) == place[1]
        assert await asyncio.to_thread(early.recv, 5) == b"hello"
        accepting.stop()
        await accepting.stopped()
    assert listening.fileno() == -1


async def test_a_port_is_taken_from_the_moment_it_is_bound():
    with await bound(HOST, 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of {HOST} is taken"):
            await bound(HOST, port)


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_number_that_is_no_port_is_the_users_error(port):
    with pytest.raises(UserError, match=r"it must be in \[1, 65535\]"):
        await bound(HOST, port)


@pytest.mark.parametrize("host", ["198.51.100.7", "no.such.host.invalid", "a..b"])
async def test_an_address_that_is_not_ours_is_the_users_error(host):
    with pytest.raises(UserError, match="an address of this machine"):
        await bound(host, 0)


async def test_every_address_is_reached_by_both_versions_of_ip():
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with await bound("::", 0) as listening:
        port = listening.getsockname()[1]
        for host in (HOST, "::1"):
            with socket.create_connection((host, port), DEADLINE_S):
                pass
