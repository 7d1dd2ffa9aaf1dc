"""A running founder: newcomers come in by the door, strangers by neither port, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from dataclasses import replace

import pytest

from founding_house import SETTINGS, founding, hashed
from manyhands.domain.settings import Settings
from manyhands.errors import PeerError, UserError
from manyhands.launch.founding import Ports
from manyhands.launch.joining import enter
from manyhands.net.knocking import knock
from manyhands.net.tcp import TcpTransport, read_address
from manyhands.net.tls import stranger
from manyhands.node.founder import knock_with
from manyhands.node.live import wall_clock
from manyhands.store.home import Home
from manyhands.trust.certificate import Authority, admit, check
from manyhands.trust.signature import KeyPair
from manyhands.wire import door as wire
from tls_cases import HOUR_S, NOW_S, OTHER_SWARM, member, outdated, reckless
from transport_conformance import frame

CLEOS = KeyPair.from_seed(b"c" * 32)
CLEO = CLEOS.peer
DORAS = KeyPair.from_seed(b"d" * 32)


async def exchanged(host: str, port: int, data: bytes, **client) -> bytes:
    """What comes back to `data`; nothing when the connection is refused or broken."""
    got = b""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(host, port, **client)
        try:
            writer.write(data)
            while more := await reader.read(1 << 16):
                got += more
        finally:
            writer.transport.abort()
    return got


def not_members(folder, authority):
    """What strangers come with, by name: TLS options of asyncio."""
    cleos = admit(authority, CLEO, NOW_S, HOUR_S, 9)
    by_a_member = admit(Authority(CLEOS, cleos), DORAS.peer, NOW_S, HOUR_S, 9)
    ended = admit(authority, CLEO, NOW_S - 2 * HOUR_S, HOUR_S, 9)
    early = admit(authority, CLEO, NOW_S + HOUR_S, HOUR_S, 9)
    older = stranger()
    older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_2
    contexts = {
        "no certificate": reckless(folder, None),
        "another swarm's certificate": reckless(
            folder, CLEOS, member(CLEOS, OTHER_SWARM).certificate_pem
        ),
        "another swarm's expired one": reckless(folder, CLEOS, outdated(CLEOS).certificate_pem),
        "an expired certificate": reckless(folder, CLEOS, ended),
        "one that is not yet valid": reckless(folder, CLEOS, early),
        "one signed by a member": reckless(folder, DORAS, by_a_member, cleos),
        "older TLS": older,
    }
    yield "no TLS", {}
    for name, context in contexts.items():
        yield name, {"ssl": context, "server_hostname": ""}
    member_of_it = reckless(folder, CLEOS, cleos)
    yield "a member", {"ssl": member_of_it, "server_hostname": ""}


async def test_strangers_get_nothing_past_the_handshake_of_the_peers_port(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with founding(tmp_path / "home", settings=Settings(dial_deadline_s=2.0)) as swarm:
        authority = Home(tmp_path / "home").authority(NOW_S)
        host, port = read_address(swarm.peer.address)
        for name, client in not_members(tmp_path, authority):
            told = await exchanged(host, port, b"\x00" * 64, **client)
            if name == "a member":
                # the same bytes by the same means: only the certificate makes the difference
                assert "no link with" in caplog.text
                assert CLEO[:8] in caplog.text
            else:
                # nothing of ours: without TLS the alert that says so, with it not a byte
                assert told == b"" or (name == "no TLS" and told[0] == 0x15), name
                assert CLEO[:8] not in caplog.text, name
        assert set(swarm.node.directory.swarm.peers) == {swarm.node.peer}


async def test_a_dialler_of_another_swarm_is_never_heard(tmp_path):
    async with founding(tmp_path) as swarm:
        cleo = TcpTransport(member(CLEOS, OTHER_SWARM))
        with pytest.raises(PeerError):
            await cleo.dial(swarm.peer.address, swarm.node.peer)
        await cleo.close()


async def test_the_door_renews_for_nobody_whose_certificate_it_did_not_give(tmp_path):
    async with founding(tmp_path / "home") as swarm:
        authority = Home(tmp_path / "home").authority(NOW_S)
        said = wire.write(knock_with(CLEOS, swarm.node.peer, None))
        for name, client in not_members(tmp_path, authority):
            told = await exchanged(swarm.door.host, swarm.door.port, said, **client)
            assert (b"BEGIN CERTIFICATE" in told) == (name == "a member"), name
            if name == "no certificate":
                assert b"an invite is needed" in told


async def test_the_peers_port_is_no_door(tmp_path):
    async with founding(tmp_path, settings=Settings(dial_deadline_s=2.0)) as swarm:
        host, port = read_address(swarm.peer.address)
        invite = swarm.founder.invite()
        with pytest.raises(PeerError):
            await knock(host, port, lambda door: knock_with(CLEOS, door, invite), deadline_s=20.0)
        await knock(
            swarm.door.host,
            swarm.door.port,
            lambda door: knock_with(CLEOS, door, invite),
            deadline_s=20.0,
        )


async def test_whoever_comes_in_can_dial_the_founder_and_is_told_what_runs(tmp_path):
    async with founding(tmp_path / "home") as swarm:
        with Home(tmp_path / "other") as home:
            keys = home.keys()
            entered = await enter(home, keys, swarm.door, swarm.founder.invite(), SETTINGS)
        assert entered.own_host == "127.0.0.1"
        (running,) = entered.admission.models
        assert (running.name, running.engine, running.dtype) == ("hashes", "hash", "int")
        contact = entered.admission.contacts[0]
        assert contact.peer == swarm.node.peer
        newcomer = TcpTransport(entered.membership)
        connection = await newcomer.dial(contact.address, contact.peer)
        connection.send(frame("hello"))
        connection.close()
        await newcomer.close()


async def test_a_founder_started_anew_is_the_same_swarm_and_knows_its_members(tmp_path):
    with Home(tmp_path / "other") as home:
        keys = home.keys()
        async with founding(tmp_path / "home") as swarm:
            invite, door = swarm.founder.invite(), swarm.door
            first = await enter(home, keys, door, invite, SETTINGS)
        ports = Ports(door=door.port)
        async with founding(tmp_path / "home", ports=ports) as swarm:
            again = await enter(home, keys, swarm.door, None, SETTINGS)
            assert again.membership.swarm == first.membership.swarm
            # the invite is forgotten, which does a member no harm
            await enter(home, keys, swarm.door, invite, SETTINGS)
            with Home(tmp_path / "third") as third, pytest.raises(PeerError, match="not known"):
                await enter(third, third.keys(), swarm.door, invite, SETTINGS)


def inner(error: BaseException) -> BaseException:
    """The only error of nested groups."""
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


def threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name in ("compute", "loading")}


@pytest.mark.parametrize("which", ["peers", "door"])
async def test_a_port_that_is_taken_is_the_users_error_and_nothing_is_left(tmp_path, which):
    before = threads()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ExceptionGroup) as told:
            async with founding(tmp_path, ports=Ports(**{which: port})):
                pytest.fail("it started")
    error = inner(told.value)
    assert isinstance(error, UserError)
    assert f"port {port} of 127.0.0.1 is taken" in str(error)
    for thread in threads() - before:
        thread.join(20)
    assert threads() <= before
    with Home(tmp_path) as home, Home(tmp_path) as other:
        assert home.keys().peer != other.keys().peer


async def test_a_founders_secrets_do_not_leave_its_folder(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with Home(tmp_path / "other") as home:
        async with founding(tmp_path / "home") as swarm:
            entered = await enter(home, home.keys(), swarm.door, swarm.founder.invite(), SETTINGS)
            told = repr(entered) + repr(swarm.founder.membership()) + caplog.text
        seeds = [file.read_bytes() for file in (tmp_path / "home").rglob("*.key")]
        assert len(seeds) == 2
        elsewhere = b"".join(
            file.read_bytes() for file in (tmp_path / "other").rglob("*") if file.is_file()
        )
        for seed in seeds:
            assert seed.hex() not in told
            assert seed not in elsewhere
            assert seed.hex().encode() not in elsewhere


async def test_an_owner_that_only_asks_never_holds_anything(tmp_path):
    async with founding(tmp_path, holds=False) as swarm:
        assert swarm.opened.model.stored == ()
        assert swarm.node.holdings.holdings() == ()


async def test_it_holds_what_it_is_told_and_answers_through_its_speaker(tmp_path):
    opened = hashed()
    async with founding(tmp_path, opened) as swarm:
        await swarm.hold(opened.model.spec.span)
        answer = swarm.speaker.answer([1, 2, 3], 5, as_text=False)
        async for _ in answer.pieces():
            pass
        assert len(answer.tokens) == 5


async def shown_by(door) -> bytes:
    """The certificate that the door shows now."""
    _, writer = await asyncio.open_connection(
        door.host, door.port, ssl=stranger(), server_hostname=""
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return der


async def test_the_founders_own_membership_is_renewed_at_its_door_as_well(tmp_path):
    settings = replace(SETTINGS, certificate_life_s=4.0)
    async with founding(tmp_path, settings=settings) as swarm:
        first = await shown_by(swarm.door)
        while await shown_by(swarm.door) == first:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.05)
        assert check(await shown_by(swarm.door), swarm.peer.membership.swarm, wall_clock())


async def test_a_usual_port_that_somebody_took_meanwhile_is_another_one(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as peers,
        socket.create_server(("127.0.0.1", 0)) as door,
    ):
        taken = Ports(peers=peers.getsockname()[1], door=door.getsockname()[1])
        usual = replace(taken, is_peers_named=False, is_door_named=False)
        async with founding(tmp_path / "a", ports=usual) as swarm:
            assert read_address(swarm.peer.address)[1] not in (0, taken.peers)
            assert swarm.door.port not in (0, taken.door)
            keys = Home(tmp_path / "b").keys()
            await enter(
                Home(tmp_path / "b"), keys, swarm.door, swarm.founder.invite(), swarm.settings
            )
        for named in (replace(usual, is_peers_named=True), replace(usual, is_door_named=True)):
            with pytest.raises(ExceptionGroup) as told:
                async with founding(tmp_path / "c", ports=named):
                    pass
            assert told.group_contains(UserError, match="taken")
