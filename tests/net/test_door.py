"""A swarm's door on real sockets: the invited come in, members renew, strangers get a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from dataclasses import replace

import pytest

from manyhands.domain.admission import Admission, Knock, NotAdmitted
from manyhands.domain.settings import Settings
from manyhands.errors import (
    DeadlinePassed,
    FrameError,
    PeerError,
    PeerLied,
    PeerLost,
    UserError,
    VersionMismatch,
)
from manyhands.net.door import WARN_EVERY_S, Door
from manyhands.net.knocking import knock
from manyhands.net.tls import Contexts, stranger
from manyhands.node.founder import Founder, knock_with
from manyhands.trust.certificate import Authority, Membership, admit, check
from manyhands.wire import door as wire
from tls_cases import HOUR_S, NOW_S, OTHER_SWARM, SWARM, member, outdated, reckless
from transport_conformance import ANNA, BEN, CLEO, KEYS

ANNAS, BENS, CLEOS = KEYS
DEADLINE_S = 20.0
HOST = "127.0.0.1"


class AtHome:
    """Anna founded a swarm; her door is open."""

    def __init__(self, founder: Founder, door: Door, port: int) -> None:
        self.founder, self.door, self.port = founder, door, port

    async def asked(self, keys, invite=None, membership=None) -> Membership:
        """What one who knocks holds then."""
        admission, host = await knock(
            HOST,
            self.port,
            lambda answered: knock_with(keys, answered, invite),
            deadline_s=DEADLINE_S,
            membership=membership,
        )
        assert host == HOST
        return Membership(keys, admission.certificate.encode(), admission.authority.encode())

    async def told(self, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """All that comes back to `data`."""
        reader, writer = await asyncio.open_connection(
            HOST, self.port, ssl=context or stranger(), server_hostname=""
        )
        writer.write(data)
        try:
            return await until_closed(reader)
        finally:
            writer.transport.abort()

    async def reply(self, word: Knock, context: ssl.SSLContext | None = None):
        """The answer to one word."""
        data = await self.told(wire.write(word), context)
        return wire.read(data[wire.LENGTH.size :])


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(OSError):
        while more := await reader.read(1 << 16):
            got += more
    return got


@contextlib.asynccontextmanager
async def at_home(deadline_s=DEADLINE_S, port=0, **options):
    founder = Founder(SWARM, ANNAS, Settings(), lambda: NOW_S, lambda: 77)
    contexts = Contexts(founder.membership())
    options.setdefault("reception", founder)
    door = Door(contexts, HOST, port, founder.decide, deadline_s, **options)
    yielded = AtHome(founder, door, await door.open())
    try:
        yield yielded
    finally:
        await door.close()


async def test_the_invited_become_members_once_each():
    async with at_home() as home:
        invite = home.founder.invite()
        bens = await home.asked(BENS, invite)
        assert check(bens.certificate_der, SWARM.swarm, NOW_S) == BEN
        await home.asked(BENS, invite)  # as when the answer was lost
        with pytest.raises(PeerError, match="used already"):
            await home.asked(CLEOS, invite)


async def test_a_member_renews_by_its_certificate_alone():
    async with at_home() as home:
        bens = await home.asked(BENS, home.founder.invite())
        again = await home.asked(BENS, membership=bens)
        assert check(again.certificate_der, SWARM.swarm, NOW_S) == BEN


async def test_a_stranger_without_an_invite_gets_a_refusal_and_nothing_else():
    async with at_home() as home:
        with pytest.raises(PeerError, match="an invite is needed"):
            await home.asked(CLEOS)
        answer = await home.reply(knock_with(CLEOS, ANNA, None))
        assert answer == NotAdmitted(
            "peer", "an invite is needed here; ask whoever runs the swarm for one"
        )
        told = await home.told(wire.write(NotAdmitted("user", "no, you")))
        assert b"CERTIFICATE" not in told


async def test_who_names_a_key_that_is_not_its_own_is_refused_and_the_invite_stays_good():
    async with at_home() as home:
        invite = home.founder.invite()
        honest = knock_with(CLEOS, ANNA, invite)
        for forged in (
            replace(honest, peer=BEN),
            replace(honest, proof=""),
            replace(honest, proof=knock_with(CLEOS, BEN, None).proof),
            replace(knock_with(CLEOS, ANNA, None), secret=honest.secret),
        ):
            answer = await home.reply(forged)
            assert answer == NotAdmitted("peer", "whoever knocks does not hold the key it names"), (
                forged
            )
        await home.asked(BENS, invite)


async def test_a_member_cannot_renew_under_somebody_elses_key():
    async with at_home() as home:
        context = Contexts(member(BENS)).client
        stolen = replace(knock_with(BENS, ANNA, None), peer=CLEO)
        assert isinstance(await home.reply(stolen, context), NotAdmitted)
        # with Cleo's own word, but Ben's certificate
        told = await home.reply(knock_with(CLEOS, ANNA, None), context)
        assert isinstance(told, NotAdmitted)
        assert "invite is needed" in told.message
        # and with Ben's own word he comes in, so that it was not for another reason
        assert isinstance(await home.reply(knock_with(BENS, ANNA, None), context), Admission)


def not_members(folder):
    """Clients that show what admits nobody, by name."""
    annas = member(ANNAS).certificate_pem
    by_a_member = admit(Authority(ANNAS, annas), CLEO, NOW_S, HOUR_S, 9)
    shown = {
        "of another swarm": [member(CLEOS, OTHER_SWARM).certificate_pem],
        "expired": [outdated(CLEOS).certificate_pem],
        "not yet valid": [member(CLEOS, since_s=NOW_S + HOUR_S).certificate_pem],
        "signed by a mere member": [by_a_member, annas],
    }
    for name, chain in shown.items():
        yield name, reckless(folder, CLEOS, *chain)


async def test_a_certificate_that_admits_nobody_gets_nothing_at_all(tmp_path):
    async with at_home() as home:
        for name, context in not_members(tmp_path):
            told = b""
            with contextlib.suppress(OSError):
                told = await home.told(wire.write(knock_with(CLEOS, ANNA, None)), context)
            assert told == b"", name
        assert await home.told(wire.write(knock_with(CLEOS, ANNA, None))) != b""


async def test_a_member_of_another_swarm_is_told_that_the_swarm_is_another():
    async with at_home() as home:
        with pytest.raises(PeerError, match=r"not of the swarm .* ask for an invite"):
            await home.asked(CLEOS, membership=member(CLEOS, OTHER_SWARM))


async def test_an_invite_of_another_door_is_not_shown():
    async with at_home() as home:
        invite = home.founder.invite()
        seen: asyncio.Queue[bytes] = asyncio.Queue()

        async def listen(reader, writer):
            seen.put_nowait(await until_closed(reader))
            writer.transport.abort()

        bens = Contexts(member(BENS, OTHER_SWARM)).door  # somebody else's, at the same place
        server = await asyncio.start_server(listen, HOST, 0, ssl=bens)
        elsewhere = AtHome(home.founder, home.door, server.sockets[0].getsockname()[1])
        with pytest.raises(PeerError, match="not the one this invite is of"):
            await elsewhere.asked(CLEOS, invite)
        assert await seen.get() == b""
        server.close()


async def test_another_version_is_told_what_to_do():
    async with at_home() as home:
        with pytest.raises(VersionMismatch, match="install the same version"):
            await knock(
                HOST,
                home.port,
                lambda door: replace(knock_with(CLEOS, door, home.founder.invite()), protocol=2),
                deadline_s=DEADLINE_S,
            )


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        wire.LENGTH.pack(wire.MOST_BYTES + 1) + b"x",
        wire.LENGTH.pack(0xFFFFFFFF),
        wire.LENGTH.pack(2) + b"{}",
        wire.LENGTH.pack(0),
        wire.write(NotAdmitted("x", "y")),
        wire.write(Admission("", "", (), (), 0.0)),
    ],
    ids=["HTTP", "too large", "largest", "no word", "empty", "a refusal", "an admission"],
)
async def test_garbage_is_refused_and_the_connection_closed(data):
    async with at_home() as home:
        told = await home.told(data)
        assert isinstance(wire.read(told[wire.LENGTH.size :]), NotAdmitted)
        await home.asked(BENS, home.founder.invite())


async def test_plain_tcp_gets_nothing():
    async with at_home() as home:
        reader, writer = await asyncio.open_connection(HOST, home.port)
        writer.write(wire.write(knock_with(BENS, ANNA, home.founder.invite())))
        assert b"CERTIFICATE" not in await until_closed(reader)
        writer.transport.abort()


async def test_older_tls_gets_nothing():
    async with at_home() as home:
        context = stranger()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError):
            await home.told(b"", context)


async def test_who_says_nothing_or_not_all_is_cut_off_by_the_deadline():
    async with at_home(deadline_s=0.3) as home:
        whole = wire.write(knock_with(BENS, ANNA, home.founder.invite()))
        for said in (b"", whole[:2], whole[:-1]):
            with contextlib.suppress(OSError):  # on a slow machine before the handshake ends
                assert await home.told(said) == b""
        reader, writer = await asyncio.open_connection(HOST, home.port)  # not even TLS
        assert await until_closed(reader) == b""
        writer.close()


async def drip(writer, data):
    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_who_drips_bytes_is_cut_off_by_the_same_deadline():
    async with at_home(deadline_s=1.0) as home:
        reader, writer = await asyncio.open_connection(
            HOST, home.port, ssl=stranger(), server_hostname=""
        )
        with pytest.raises(OSError):
            await drip(writer, wire.write(knock_with(BENS, ANNA, None)) * 100)
        assert await until_closed(reader) == b""
        writer.transport.abort()


async def test_who_never_reads_its_answer_and_never_leaves_holds_its_place_no_longer():
    async with at_home(deadline_s=2.0, places=1) as home:
        _, writer = await asyncio.open_connection(
            HOST, home.port, ssl=stranger(), server_hostname=""
        )
        writer.transport.pause_reading()
        writer.write(wire.write(knock_with(BENS, ANNA, None)))
        await home.asked(BENS, home.founder.invite())
        writer.transport.abort()


async def test_more_strangers_than_places_keep_the_invited_out_no_longer_than_the_deadline():
    async with at_home(deadline_s=2.0, places=2) as home:
        silent = [await asyncio.open_connection(HOST, home.port) for _ in range(3)]
        await home.asked(BENS, home.founder.invite())
        for reader, writer in silent:
            assert await until_closed(reader) == b""
            writer.close()


async def test_closing_the_door_sends_away_who_stands_there():
    async with at_home(deadline_s=600.0) as home:
        reader, writer = await asyncio.open_connection(
            HOST, home.port, ssl=stranger(), server_hostname=""
        )
        await home.door.close()
        assert await until_closed(reader) == b""
        writer.transport.abort()
        with pytest.raises(PeerLost, match="nobody opened"):
            await home.asked(BENS, home.founder.invite())


async def test_a_door_whose_port_is_taken_is_the_users_error():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"door .* port {port} of {HOST} is taken"):
            async with at_home(port=port):
                pass


async def test_refusals_are_told_to_the_founder_but_cannot_fill_its_screen(caplog):
    caplog.set_level(logging.INFO)
    async with at_home() as home:
        for _ in range(5):
            await home.reply(knock_with(CLEOS, ANNA, None))
    refused = [told for told in caplog.records if "was not let in" in told.getMessage()]
    assert len(refused) == 5
    assert sum(told.levelno >= logging.WARNING for told in refused) == 1
    assert WARN_EVERY_S > 1


async def test_nothing_of_a_knock_that_is_secret_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with at_home() as home:
        invite = home.founder.invite()
        await home.asked(BENS, invite)
        with contextlib.suppress(PeerError):
            await home.asked(CLEOS, invite)
    assert "was not let in" in caplog.text
    assert invite.secret.hex() not in caplog.text


@contextlib.asynccontextmanager
async def somebody(answer, **server):
    """Another program at a port; `answer` gets its reader and writer."""
    listening = await asyncio.start_server(answer, HOST, 0, **server)
    try:
        yield AtHome(None, None, listening.sockets[0].getsockname()[1])
    finally:
        listening.close()


def answers(data, context):
    async def answer(reader, writer):
        writer.write(data)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    return somebody(answer, ssl=context)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (wire.write(knock_with(BENS, ANNA, None)), PeerLied),
        (b"HTTP/1.1 400 Bad Request\r\n", FrameError),
        (wire.LENGTH.pack(9) + b"{}", PeerLost),
        (b"", PeerLost),
    ],
    ids=["a knock", "HTTP", "cut short", "nothing"],
)
async def test_what_is_no_doors_answer_is_a_typed_error(data, error):
    async with answers(data, Contexts(member(ANNAS)).door) as other:
        with pytest.raises(error):
            await other.asked(CLEOS)


async def test_a_program_without_tls_is_no_door():
    async with answers(b"220 mail ready\r\n", None) as other:
        with pytest.raises(PeerLost, match="is no door of a swarm"):
            await other.asked(CLEOS)


async def test_nobody_there_and_odd_names_are_lost_peers():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    for host in (HOST, "a..b", "x" * 64):
        with pytest.raises(PeerLost, match="nobody opened"):
            await knock(host, port, lambda _: pytest.fail("said"), deadline_s=DEADLINE_S)


async def test_a_door_that_never_answers_is_a_deadline_passed():
    with socket.create_server((HOST, 0)) as mute, pytest.raises(DeadlinePassed, match="within"):
        await knock(HOST, mute.getsockname()[1], lambda _: pytest.fail("said"), deadline_s=0.3)


async def test_a_guests_time_is_not_renewed_but_another_invite_is_good():
    async with at_home() as home:
        bens = await home.asked(BENS, home.founder.invite(guest_s=HOUR_S))
        assert bens.is_guest
        with pytest.raises(PeerError, match="a guest's time is not renewed"):
            await home.asked(BENS, membership=bens)
        again = await home.asked(BENS, home.founder.invite(), membership=bens)
        assert not again.is_guest
