"""Becoming a member: by an invite, by what was given before, and never of another swarm unasked."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.admission import Admission, Contact
from manyhands.domain.ids import PeerId
from manyhands.domain.settings import Settings
from manyhands.errors import PeerError, PeerLied, PeerLost, UserError
from manyhands.launch.joining import DoorAddress, enter, read_door
from manyhands.launch.ports import DOOR_PORT
from manyhands.net.door import Door
from manyhands.net.tls import Contexts
from manyhands.node.founder import Founder
from manyhands.node.live import wall_clock
from manyhands.store.home import Home, Joined
from manyhands.trust.certificate import admit
from manyhands.trust.invite import make_invite
from tls_cases import HOUR_S, NOW_S, OTHER_SWARM, SWARM, member, outdated
from transport_conformance import ANNA, BEN, KEYS

ANNAS, BENS, CLEOS = KEYS
SETTINGS = Settings(dial_deadline_s=20.0)


@contextlib.asynccontextmanager
async def door_of(authority=SWARM, port=0, decide=None, keys=ANNAS, now=None):
    """A founder and where its door is."""
    serial = iter(range(100, 1000)).__next__
    founder = Founder(authority, keys, SETTINGS, now or wall_clock, serial)
    founder.contacts = lambda: [Contact(ANNA, "tcp:127.0.0.1:7701")]
    door = Door(
        Contexts(founder.membership()),
        "127.0.0.1",
        port,
        decide or founder.decide,
        20.0,
        reception=founder,
    )
    port = await door.open()
    try:
        yield founder, DoorAddress("127.0.0.1", port)
    finally:
        await door.close()


@pytest.fixture
def home(tmp_path):
    with Home(tmp_path) as made:
        yield made


async def test_an_invite_is_needed_once_only(home):
    async with door_of() as (founder, door):
        entered = await enter(home, BENS, door, founder.invite(), SETTINGS)
        assert entered.membership.swarm == SWARM.swarm
        assert entered.admission.contacts == (Contact(ANNA, "tcp:127.0.0.1:7701"),)
        assert entered.own_host == "127.0.0.1"
        again = await enter(home, BENS, door, None, SETTINGS)
        assert again.membership.certificate_pem != entered.membership.certificate_pem
        kept = home.membership(BENS, str(door))
        assert kept.certificate.encode() == again.membership.certificate_pem


async def test_another_key_of_the_same_home_needs_an_invite_of_its_own(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
        with pytest.raises(UserError, match="give it with --invite"):
            await enter(home, CLEOS, door, None, SETTINGS)


async def test_a_member_that_shows_a_used_up_invite_again_comes_in_all_the_same(home):
    async with door_of() as (founder, door):
        invite = founder.invite()
        await enter(home, BENS, door, founder.invite(), SETTINGS)
        await enter(home, CLEOS, door, invite, SETTINGS)
        await enter(home, BENS, door, invite, SETTINGS)


async def test_the_refusal_of_an_invite_is_what_a_stranger_reads(home):
    async with door_of() as (_, door):
        with pytest.raises(PeerError, match="not known here"):
            await enter(home, BENS, door, make_invite(ANNA, b"0" * 16), SETTINGS)
        with pytest.raises(PeerError, match="not the one this invite is of"):
            await enter(home, BENS, door, make_invite(BEN, b"0" * 16), SETTINGS)
        assert home.membership(BENS, str(door)) is None


async def test_a_membership_that_has_ended_is_said_without_dialling(home):
    ended, door = outdated(BENS), DoorAddress("127.0.0.1", 1)
    kept = Joined(ended.certificate_pem.decode(), ended.authority_pem.decode(), str(door), ())
    home.remember(BENS, kept)
    with pytest.raises(UserError, match=r"has ended.*--invite"):
        await enter(home, BENS, door, None, SETTINGS)


async def test_an_invite_mends_a_damaged_file(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
        (file,) = (home.folder / "joined").iterdir()
        file.write_bytes(b"{")
        with pytest.raises(UserError, match="is damaged"):
            await enter(home, BENS, door, None, SETTINGS)
        await enter(home, BENS, door, founder.invite(), SETTINGS)
        await enter(home, BENS, door, None, SETTINGS)


async def test_another_swarm_at_the_same_door_needs_another_invite(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
    async with door_of(OTHER_SWARM, door.port) as (founder, _):
        with pytest.raises(PeerError, match="ask for an invite"):
            await enter(home, BENS, door, None, SETTINGS)
        entered = await enter(home, BENS, door, founder.invite(), SETTINGS)
        assert entered.membership.swarm == OTHER_SWARM.swarm


async def test_nobody_at_the_door_is_a_lost_peer_with_and_without_an_invite(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
    for invite in (None, founder.invite()):
        with pytest.raises(PeerLost, match="nobody opened"):
            await enter(home, BENS, door, invite, SETTINGS)


def answer_of(membership) -> Admission:
    return Admission(
        membership.authority_pem.decode(), membership.certificate_pem.decode(), (), (), NOW_S
    )


@pytest.mark.parametrize(
    "given_",
    [
        answer_of(member(CLEOS)),
        Admission(SWARM.certificate_pem.decode(), "", (), (), NOW_S),
        Admission("", member(BENS).certificate_pem.decode(), (), (), NOW_S),
        Admission(
            OTHER_SWARM.certificate_pem.decode(),
            member(BENS).certificate_pem.decode(),
            (),
            (),
            NOW_S,
        ),
        Admission(
            member(ANNAS).certificate_pem.decode(),
            admit(SWARM, BEN, NOW_S, HOUR_S, 5).decode(),
            (),
            (),
            NOW_S,
        ),
    ],
    ids=["of another", "no certificate", "no CA", "two swarms", "a member for a CA"],
)
async def test_a_door_that_gives_no_proper_membership_is_a_liar_and_nothing_is_kept(home, given_):
    async with door_of(decide=lambda knock, member: given_) as (founder, door):
        with pytest.raises(PeerLied, match="no proper membership"):
            await enter(home, BENS, door, founder.invite(), SETTINGS)
        assert home.membership(BENS, str(door)) is None


async def test_a_door_cannot_move_a_member_to_another_swarm_as_it_renews(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
    before = home.membership(BENS, str(door))
    other = answer_of(member(BENS, OTHER_SWARM))
    async with door_of(port=door.port, decide=lambda knock, member: other):
        with pytest.raises(PeerLied, match="another swarm than before"):
            await enter(home, BENS, door, None, SETTINGS)
    assert home.membership(BENS, str(door)) == before


async def test_a_mere_member_that_plays_the_door_can_give_nothing(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
    bens = member(CLEOS)
    forged = Admission(SWARM.certificate_pem.decode(), bens.certificate_pem.decode(), (), (), NOW_S)
    async with door_of(port=door.port, decide=lambda knock, member: forged, keys=CLEOS):
        with pytest.raises(PeerLied, match="no proper membership"):
            await enter(home, BENS, door, None, SETTINGS)


async def test_many_may_come_in_at_once(tmp_path):
    async with door_of() as (founder, door):

        async def one(number: int) -> PeerId:
            with Home(tmp_path / str(number)) as home:
                keys = home.keys()
                await enter(home, keys, door, founder.invite(), SETTINGS)
                return keys.peer

        async with asyncio.TaskGroup() as tasks:
            coming = [tasks.create_task(one(number)) for number in range(12)]
        assert len({task.result() for task in coming}) == 12


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.1.2", "192.168.1.2", DOOR_PORT),
        (" box.local:9 ", "box.local", 9),
        ("tcp:10.0.0.1:7702", "10.0.0.1", 7702),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]", "fe80::1%eth0", DOOR_PORT),
    ],
)
def test_a_door_is_read_as_people_write_it_and_again_as_it_is_printed(text, host, port):
    door = read_door(text)
    assert (door.host, door.port) == (host, port)
    assert read_door(str(door)) == door


@pytest.mark.parametrize(
    "text",
    ["", ":7702", "host:", "host:0", "host:65536", "host:123456", "::1", "[::1", "a b", "x" * 254,
     "http://host:7702", "host:7702/", "host:٣"],
)  # fmt: skip
def test_what_is_no_address_is_the_users_error(text):
    with pytest.raises(UserError, match="HOST or HOST:PORT"):
        read_door(text)


@given(st.text())
def test_any_text_is_an_address_or_the_users_error(text):
    with contextlib.suppress(UserError):
        assert 0 < read_door(text).port < 1 << 16


@pytest.mark.parametrize(("off_s", "said"), [(HOUR_S, "behind"), (-HOUR_S, "ahead of")])
async def test_a_clock_that_is_an_hour_off_is_said_before_anything_is_kept(home, off_s, said):
    async with door_of(now=lambda: wall_clock() + off_s) as (founder, door):
        with pytest.raises(UserError, match=rf"clock is 1 h 0 min {said} the one at"):
            await enter(home, BENS, door, founder.invite(), SETTINGS)
        assert home.membership(BENS, str(door)) is None


async def test_a_member_whose_clock_went_wrong_reads_so_and_not_that_the_swarm_is_another(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
    async with door_of(port=door.port, now=lambda: wall_clock() + HOUR_S):
        with pytest.raises(PeerError, match=r"set the clocks of both machines: .hands doctor"):
            await enter(home, BENS, door, None, SETTINGS)


async def test_without_an_invite_a_person_is_asked_once_and_never_again(home):
    async with door_of() as (founder, door), asyncio.TaskGroup() as tasks:
        shown = []
        entering = tasks.create_task(enter(home, BENS, door, None, SETTINGS, shown.append))
        while not founder.approvals.waiting():
            await founder.approvals.changed()
        founder.approvals.answer(shown[0], is_welcome=True)
        entered = await entering
        assert entered.membership.swarm == SWARM.swarm
        await enter(home, BENS, door, None, SETTINGS, shown.append)
        assert len(shown) == 1


async def test_a_swarm_that_moved_to_another_address_knows_its_members(home):
    async with door_of() as (founder, door):
        await enter(home, BENS, door, founder.invite(), SETTINGS)
    async with door_of() as (_, elsewhere):
        entered = await enter(home, BENS, elsewhere, None, SETTINGS, swarm=SWARM.swarm)
        assert entered.membership.swarm == SWARM.swarm
        assert home.membership(BENS, str(elsewhere)) is not None


async def test_who_is_a_member_no_more_asks_again(home):
    async with door_of() as (founder, door), asyncio.TaskGroup() as tasks:
        old = outdated(BENS)
        told = old.certificate_pem.decode(), old.authority_pem.decode()
        home.remember(BENS, Joined(*told, str(door), ()))
        shown = []
        entering = tasks.create_task(enter(home, BENS, door, None, SETTINGS, shown.append))
        while not founder.approvals.waiting():
            await founder.approvals.changed()
        founder.approvals.answer(shown[0], is_welcome=True)
        await entering
