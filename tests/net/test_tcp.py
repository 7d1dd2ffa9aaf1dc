"""TCP with mutual TLS on real sockets of this machine: the transport's conformance, and strangers.

None of these tests looks at a clock: they wait until something has happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from datetime import UTC, datetime

import pytest

from manyhands.errors import PeerLost
from manyhands.net import tcp_connection
from manyhands.net.tcp import TcpTransport, read_address, write_address
from manyhands.trust.certificate import Authority, admit
from tls_cases import (
    HOUR_S,
    NOW_S,
    OTHER_SWARM,
    admitted_with_another_kind_of_key,
    member,
    outdated,
    reckless,
)
from transport_conformance import (
    ANNA,
    BEN,
    CLEO,
    KEYS,
    Answering,
    TransportConformance,
    frame,
)

ANNAS, BENS, CLEOS = KEYS


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class TestTcpTransport(TransportConformance):
    def run(self, main):
        asyncio.run(main())

    async def transports(self, keys):
        return [TcpTransport(member(pair)) for pair in keys]

    async def nowhere(self):
        return f"tcp:127.0.0.1:{free_port()}"


class TestTcpTransportOfSlowReaders(TestTcpTransport):
    @pytest.fixture(autouse=True)
    def _little_room(self, monkeypatch):
        monkeypatch.setattr(tcp_connection, "UNREAD_BYTES", 100_000)

    async def transports(self, keys):
        # one of these tests closes while the other side does not read: that takes the deadline
        return [TcpTransport(member(pair), deadline_s=2.0) for pair in keys]


@contextlib.asynccontextmanager
async def ben_at_home(**options):
    """Ben, listening, and one who may dial him; both are closed, and nothing is left open."""
    ben, anna = TcpTransport(member(BENS), **options), TcpTransport(member(ANNAS))
    try:
        yield await Answering(ben).start(), anna
    finally:
        await anna.close()
        await ben.close()
        assert not ben._connections
        assert not anna._connections


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the other side closes or resets."""
    got = b""
    try:
        while more := await reader.read(1 << 16):
            got += more
    except OSError:
        pass
    return got


async def must_be_refused(answering: Answering, anna: TcpTransport, **client) -> None:
    """A client that comes with `client` (ssl=) gets nowhere; an honest one after it does."""
    host, port = read_address(answering.address)
    with contextlib.suppress(OSError):  # refused at once, or when it listens
        reader, writer = await asyncio.open_connection(host, port, **client)
        writer.write(b"let me in")
        assert await until_closed(reader) == b""
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    connection = await anna.dial(answering.address, BEN)
    assert (await answering.accepted()).remote == ANNA
    assert answering.has_none
    assert len(answering.transport._connections) == 1
    connection.close()


async def test_a_client_without_a_certificate_is_refused(tmp_path):
    async with ben_at_home() as (answering, anna):
        await must_be_refused(answering, anna, ssl=reckless(tmp_path, None))


@pytest.mark.parametrize(
    "membership",
    [
        member(CLEOS, OTHER_SWARM),
        outdated(CLEOS),
        member(CLEOS, since_s=NOW_S + HOUR_S),
    ],
    ids=["of another swarm", "expired", "not yet valid"],
)
async def test_a_client_whose_certificate_does_not_admit_it_is_refused(tmp_path, membership):
    context = reckless(tmp_path, CLEOS, membership.certificate_pem)
    async with ben_at_home() as (answering, anna):
        await must_be_refused(answering, anna, ssl=context)


async def test_a_client_admitted_by_a_mere_member_is_refused(tmp_path):
    annas = member(ANNAS).certificate_pem
    certificate = admit(Authority(ANNAS, annas), CLEO, NOW_S, HOUR_S, 9)
    context = reckless(tmp_path, CLEOS, certificate, annas)
    async with ben_at_home() as (answering, anna):
        await must_be_refused(answering, anna, ssl=context)


async def test_a_key_that_can_be_no_peers_is_refused_even_if_the_swarm_signed_it(tmp_path):
    context = reckless(tmp_path, None)
    context.load_cert_chain(admitted_with_another_kind_of_key(tmp_path))
    async with ben_at_home() as (answering, anna):
        await must_be_refused(answering, anna, ssl=context)


async def test_a_client_of_the_swarm_is_let_in_by_the_same_means(tmp_path):
    context = reckless(tmp_path, CLEOS, member(CLEOS).certificate_pem)
    async with ben_at_home() as (answering, _):
        host, port = read_address(answering.address)
        _, writer = await asyncio.open_connection(host, port, ssl=context)
        assert (await answering.accepted()).remote == CLEO
        writer.close()
        await writer.wait_closed()


async def test_older_tls_is_refused(tmp_path):
    context = reckless(tmp_path, CLEOS, member(CLEOS).certificate_pem)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with ben_at_home() as (answering, anna):
        await must_be_refused(answering, anna, ssl=context)


async def test_plain_tcp_is_refused():
    async with ben_at_home() as (answering, anna):
        await must_be_refused(answering, anna)


async def test_a_client_that_says_nothing_is_dropped_in_the_end():
    async with ben_at_home(deadline_s=0.2) as (answering, anna):
        host, port = read_address(answering.address)
        reader, writer = await asyncio.open_connection(host, port)
        assert await until_closed(reader) == b""
        writer.close()
        await must_be_refused(answering, anna)


async def test_a_client_that_is_proving_itself_does_not_hold_up_close():
    ben = TcpTransport(member(BENS), deadline_s=600.0)
    answering = await Answering(ben).start()
    reader, writer = await asyncio.open_connection(*read_address(answering.address))
    writer.write(b"\x16\x03\x01\x02\x00")  # the first bytes of a ClientHello, and no more
    await asyncio.sleep(0.01)
    await ben.close()
    assert await until_closed(reader) == b""
    writer.close()


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_that_comes_just_as_we_close_is_not_left_open(turns):
    ben = TcpTransport(member(BENS))
    answering = await Answering(ben).start()
    await asyncio.sleep(0)
    with socket.create_connection(read_address(answering.address)) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await ben.close()
        await asyncio.sleep(0)
        gc.collect()  # a socket that was forgotten is a warning, which is an error
        client.setblocking(False)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
    assert answering.has_none


@pytest.mark.slow
async def test_more_silent_clients_than_places_hold_nobody_up_for_long(monkeypatch):
    monkeypatch.setattr("manyhands.net.tcp.HANDSHAKES", 2)
    async with ben_at_home(deadline_s=0.2) as (answering, anna):
        host, port = read_address(answering.address)
        silent = [await asyncio.open_connection(host, port) for _ in range(5)]
        connection = await anna.dial(answering.address, BEN)
        assert (await answering.accepted()).remote == ANNA
        connection.close()
        for reader, writer in silent:
            assert await until_closed(reader) == b""
            writer.close()


async def test_a_dialler_whose_membership_has_ended_sees_a_lost_peer():
    async with ben_at_home() as (answering, _):
        late = TcpTransport(outdated(CLEOS))
        with pytest.raises(PeerLost):  # noqa: PT012 (TLS 1.3 may say so at once, or when we read)
            connection = await late.dial(answering.address, BEN)
            connection.send(frame("hello"))
            await connection.receive()
        assert answering.has_none
        await late.close()


@pytest.mark.slow
async def test_a_connection_ends_with_the_certificate_that_the_other_side_showed():
    for dialler_s, listener_s in ((4, HOUR_S), (HOUR_S, 4)):
        now_s = datetime.now(UTC).timestamp()
        ben = TcpTransport(member(BENS, since_s=now_s, life_s=listener_s))
        anna = TcpTransport(member(ANNAS, since_s=now_s, life_s=dialler_s))
        answering = await Answering(ben).start()
        dialled = await anna.dial(answering.address, BEN)
        accepted = await answering.accepted()
        async with asyncio.timeout(20):
            for connection in (dialled, accepted):
                with pytest.raises(PeerLost, match="is closed"):
                    await connection.receive()
                await connection.is_gone.wait()
        assert datetime.now(UTC).timestamp() >= int(now_s) + 4
        for transport in (anna, ben):
            transport.renew(member(ANNAS if transport is anna else BENS, serial=8))
        again = await anna.dial(answering.address, BEN)
        await answering.accepted()
        assert len(anna._expiries) == len(ben._expiries) == 1
        again.close()
        await anna.close()
        await ben.close()
        assert not anna._expiries
        assert not ben._expiries


async def test_a_server_of_another_swarm_is_a_lost_peer():
    ben, anna = TcpTransport(member(BENS, OTHER_SWARM)), TcpTransport(member(ANNAS))
    answering = await Answering(ben).start()
    with pytest.raises(PeerLost, match="cannot be reached"):
        await anna.dial(answering.address, BEN)
    assert answering.has_none
    await anna.close()
    await ben.close()


async def test_a_wrong_peer_learns_nothing_not_even_who_dialled():
    """A relay before the wrong peer sees a ClientHello from us, and nothing after it."""
    seen = bytearray()
    cleo, anna = TcpTransport(member(CLEOS)), TcpTransport(member(ANNAS))
    answering = await Answering(cleo).start()
    is_over = asyncio.Event()

    async def relay(reader, writer):
        to_cleo, from_cleo = None, None
        from_cleo, to_cleo = await asyncio.open_connection(*read_address(answering.address))

        async def back():
            with contextlib.suppress(OSError):
                while more := await from_cleo.read(1 << 16):
                    writer.write(more)

        async with asyncio.TaskGroup() as tasks:
            returning = tasks.create_task(back())
            with contextlib.suppress(OSError):
                while more := await reader.read(1 << 16):
                    seen.extend(more)
                    to_cleo.write(more)
            returning.cancel()
        to_cleo.close()
        writer.close()
        is_over.set()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    with pytest.raises(PeerLost, match=f"leads to peer {CLEO[:8]}"):
        await anna.dial(write_address("127.0.0.1", server.sockets[0].getsockname()[1]), BEN)
    await is_over.wait()
    assert seen[0] == 0x16
    assert len(seen) == 5 + int.from_bytes(seen[3:5])
    assert answering.has_none
    server.close()
    await anna.close()
    await cleo.close()


async def test_a_server_that_never_answers_is_a_lost_peer():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        anna = TcpTransport(member(ANNAS), deadline_s=0.2)
        with pytest.raises(PeerLost, match="within"):
            await anna.dial(write_address("127.0.0.1", mute.getsockname()[1]), BEN)
        await anna.close()


async def test_a_cancelled_dial_leaves_nothing():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        anna = TcpTransport(member(ANNAS))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anna.dial(write_address("127.0.0.1", mute.getsockname()[1]), BEN)
        mute.setblocking(False)
        client, _ = await asyncio.get_running_loop().sock_accept(mute)
        while await asyncio.get_running_loop().sock_recv(client, 1 << 16):
            pass  # it is closed: nobody holds the other end any more
        client.close()
        await anna.close()
        with pytest.raises(PeerLost):
            await anna.dial("tcp:127.0.0.1:1", BEN)
