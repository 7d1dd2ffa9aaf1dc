"""What a TLS connection does with garbage, resets, floods and farewells that cross."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.errors import FrameError, PeerLost, UserError
from manyhands.net import tcp_connection
from manyhands.net.tcp import TcpTransport, read_address, read_places, write_address
from tls_cases import HOUR_S, NOW_S, OTHER_SWARM, member, outdated
from transport_conformance import ANNA, BEN, KEYS, Answering, drain, frame, said

ANNAS, BENS, _ = KEYS


@contextlib.asynccontextmanager
async def pair():
    """The two ends of a connection from Anna to Ben."""
    anna, ben = TcpTransport(member(ANNAS)), TcpTransport(member(BENS))
    answering = await Answering(ben).start()
    here = await anna.dial(answering.address, BEN)
    there = await answering.accepted()
    try:
        yield here, there
    finally:
        await anna.close()
        await ben.close()


def tls_of(connection) -> object:
    return connection._transport.get_extra_info("ssl_object")


async def test_the_link_is_tls_1_3_without_delay_and_without_tickets():
    async with pair() as (here, there):
        there.send(frame("tickets would have come before this"))
        await here.receive()
        for end in (here, there):
            assert tls_of(end).version() == "TLSv1.3"
            plug = end._transport.get_extra_info("socket")
            assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not tls_of(here).session.has_ticket


async def test_bytes_that_are_no_frame_are_told_and_the_reason_can_still_be_sent():
    async with pair() as (here, there):
        here.send(frame("a frame"))
        assert said(await there.receive())[1] == "a frame"
        here._transport.write(b"\xff" * 200_000)
        here.send(frame("behind the garbage"))
        for _ in range(2):
            with pytest.raises(FrameError):
                await there.receive()
        there.send(frame("you broke the protocol"))
        there.close()
        assert await drain(here) == ["you broke the protocol"]


async def test_after_a_reset_what_had_arrived_is_read_and_then_the_peer_is_lost():
    async with pair() as (here, there):
        there.send(frame("first"))
        there.send(frame("second"))
        assert said(await here.receive())[1] == "first"
        there.abort()
        there.send(frame("after the end"))
        assert await drain(here) == ["second"]
        assert await drain(there) == []
        await here.is_gone.wait()
        await there.is_gone.wait()


async def test_an_end_inside_a_frame_is_a_lost_peer():
    async with pair() as (here, there):
        here._transport.write(b"\x00\x00\x01\x00")
        here.close()
        with pytest.raises(PeerLost):
            await there.receive()


async def test_what_nobody_takes_is_bounded(monkeypatch):
    monkeypatch.setattr(tcp_connection, "UNSENT_BYTES", 1 << 20)
    monkeypatch.setattr(tcp_connection, "UNREAD_BYTES", 1 << 20)
    async with pair() as (here, there):
        for _ in range(1000):
            here.send(frame("unread", bytes(1 << 18)))
            await asyncio.sleep(0)
        with pytest.raises(PeerLost, match="did not take"):
            await here.receive()
        assert there._unread_bytes < 2 << 20
        assert set(await drain(there)) == {"unread"}


async def test_a_reader_that_comes_late_gets_everything(monkeypatch):
    monkeypatch.setattr(tcp_connection, "UNREAD_BYTES", 1 << 20)
    async with pair() as (here, there):
        for number in range(40):
            here.send(frame(str(number), bytes(1 << 18)))
        async with asyncio.timeout(60):
            while not there._is_paused:  # noqa: ASYNC110 (nothing tells)
                await asyncio.sleep(0.001)
        assert [said(await there.receive())[1] for _ in range(40)] == [str(n) for n in range(40)]


async def test_the_last_words_of_one_who_does_not_read_arrive(monkeypatch):
    monkeypatch.setattr(tcp_connection, "UNREAD_BYTES", 10_000)
    async with pair() as (here, there):
        for number in range(10):
            here.send(frame(str(number), bytes(10_000)))
        async with asyncio.timeout(60):
            while not there._is_paused:  # noqa: ASYNC110 (nothing tells)
                await asyncio.sleep(0.001)
        there.send(frame("last words", bytes(5 << 20)))
        there.close()
        assert await drain(here) == ["last words"]


async def test_one_frame_may_be_larger_than_the_bound(monkeypatch):
    monkeypatch.setattr(tcp_connection, "UNSENT_BYTES", 1 << 10)
    async with pair() as (here, there):
        here.send(frame("large", bytes(5 << 20)))
        assert len(said(await there.receive())[2]) == 5 << 20


async def test_farewells_that_cross_with_frames_end_both_sides():
    async with pair() as (here, there):
        for number in range(200):
            here.send(frame(str(number), bytes(10_000)))
            there.send(frame(str(number), bytes(10_000)))
        here.close()
        for number in range(200):
            there.send(frame(str(number), bytes(10_000)))
        heard = await drain(there)
        assert heard == [str(number) for number in range(len(heard))]
        assert await drain(here) == []
        there.close()
        await here.is_gone.wait()
        await there.is_gone.wait()


async def test_the_key_does_not_stay_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    transport = TcpTransport(member(ANNAS))
    assert list(tmp_path.iterdir()) == []
    await transport.close()


async def test_a_renewed_certificate_is_shown_from_then_on():
    anna, ben = TcpTransport(member(ANNAS, serial=7)), TcpTransport(member(BENS, serial=7))
    answering = await Answering(ben).start()

    async def serials() -> list[str]:
        here = await anna.dial(answering.address, BEN)
        there = await answering.accepted()
        return [end._transport.get_extra_info("peercert")["serialNumber"] for end in (here, there)]

    assert await serials() == ["07", "07"]
    anna.renew(member(ANNAS, serial=8))
    ben.renew(member(BENS, serial=9))
    assert await serials() == ["09", "08"]
    await anna.close()
    await ben.close()


@pytest.mark.parametrize("other", [member(BENS), member(ANNAS, OTHER_SWARM)])
async def test_another_peers_or_swarms_membership_is_no_renewal(other):
    transport = TcpTransport(member(ANNAS))
    with pytest.raises(UserError, match="is of another"):
        transport.renew(other)
    await transport.close()


async def test_listening_with_a_membership_out_of_date_is_the_users_error():
    for membership in (outdated(ANNAS), member(ANNAS, since_s=NOW_S + HOUR_S)):
        transport = TcpTransport(membership)
        with pytest.raises(UserError, match="nobody would let us in"):
            await transport.listen(lambda connection: None)
        await transport.close()


async def test_a_taken_port_is_the_users_error_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        transport = TcpTransport(member(ANNAS), port=port)
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is taken"):
            await transport.listen(lambda connection: None)
        await transport.close()


async def test_a_host_that_is_not_ours_is_the_users_error():
    transport = TcpTransport(member(ANNAS), "192.0.2.1")  # kept for documentation by RFC 5737
    with pytest.raises(UserError, match="cannot listen at"):
        await transport.listen(lambda connection: None)
    await transport.close()


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_cannot_be_is_the_users_error(port):
    with pytest.raises(UserError, match=f"port is {port}"):
        TcpTransport(member(ANNAS), port=port)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_public_port_that_nobody_could_dial_is_the_users_error(port):
    with pytest.raises(UserError, match=f"public port is {port}"):
        TcpTransport(member(ANNAS), public_port=port)


async def test_a_forwarded_port_is_told_for_the_public_host_and_our_own_for_further_ones():
    transport = TcpTransport(
        member(ANNAS), public_host="house.example", public_port=4711, more_hosts=("10.0.0.7",)
    )
    places = read_places(await transport.listen(lambda _: None))
    assert places[0] == ("house.example", 4711)
    assert places[1][0] == "10.0.0.7"
    assert places[1][1] not in (0, 4711)
    await transport.close()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
async def test_everywhere_is_no_address_that_others_could_dial(host):
    with pytest.raises(UserError, match="public_host"):
        TcpTransport(member(ANNAS), host)
    transport = TcpTransport(member(ANNAS), "0.0.0.0", public_host="127.0.0.1")
    answering = await Answering(transport).start()
    dialling = TcpTransport(member(BENS))
    assert (await dialling.dial(answering.address, ANNA)).remote == ANNA
    await dialling.close()
    await transport.close()


async def test_ipv6_has_brackets():
    transport = TcpTransport(member(ANNAS), "::1")
    try:
        answering = await Answering(transport).start()
    except UserError:
        await transport.close()
        pytest.skip("no IPv6 on this machine")
    assert answering.address.startswith("tcp:[::1]:")
    dialling = TcpTransport(member(BENS))
    assert (await dialling.dial(answering.address, ANNA)).remote == ANNA
    await dialling.close()
    await transport.close()


async def test_closing_at_once_after_listening_leaves_nothing_open():
    transport = TcpTransport(member(ANNAS))
    host, port = read_address(await transport.listen(lambda connection: None))
    await transport.close()
    with socket.create_server((host, port)):
        pass
    with pytest.raises(UserError, match="closed"):
        await transport.listen(lambda connection: None)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_is_read_as_it_was_written(host, port):
    assert read_address(write_address(str(host), port)) == (str(host), port)


@pytest.mark.parametrize(
    "text",
    ["", "tcp:", "memory:x", "tcp:host", "tcp:host:", "tcp:host:0", "tcp:host:65536", "tcp::1:2",
     "tcp:[::1]", "tcp:a b:1", "tcp:host:1\n", "tcp:host:-1", "tcp:\u0660:1", "tcp:[host]:1"],
)  # fmt: skip
async def test_what_is_no_address_is_the_users_error_and_a_lost_peer_when_dialled(text):
    with pytest.raises(UserError, match="is no address"):
        read_address(text)
    transport = TcpTransport(member(ANNAS))
    with pytest.raises(PeerLost):
        await transport.dial(text, BEN)
    await transport.close()


@pytest.mark.parametrize("host", ["a" * 64, "..", "-", "no-such-name.invalid", "[::1%nowhere]"])
async def test_a_host_that_cannot_be_found_is_a_lost_peer_and_no_place_to_listen(host):
    transport = TcpTransport(member(ANNAS), host)
    with pytest.raises(PeerLost):
        await transport.dial(f"tcp:{host}:1", BEN)
    with pytest.raises(UserError):
        await transport.listen(lambda connection: None)
    await transport.close()


def test_host_names_and_zones_are_addresses():
    assert read_address("tcp:laptop-ben.local:7777") == ("laptop-ben.local", 7777)
    assert read_address("tcp:[fe80::1%eth0]:7777") == ("fe80::1%eth0", 7777)
