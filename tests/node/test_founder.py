"""Who is let in: decided from a knock and a proven certificate alone, with time as an argument."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.admission import Contact, RunningModel
from manyhands.domain.ids import ModelId
from manyhands.domain.settings import Settings
from manyhands.errors import ManyhandsError, PeerError, VersionMismatch
from manyhands.node.founder import MOST_CONTACTS, Founder, contacts_in, knock_with
from manyhands.node.newcomer import Newcomer
from manyhands.trust.certificate import Membership, check
from manyhands.trust.invite import make_invite
from manyhands.trust.signature import KeyPair
from manyhands.wire import door
from small_swarms import peer_id, record, swarm
from tls_cases import NOW_S, SWARM

ANNAS, BENS, CLEOS = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
SETTINGS = Settings(invite_life_s=100.0, certificate_life_s=1000.0)
ANNA, BEN, CLEO = ANNAS.peer, BENS.peer, CLEOS.peer


class Town:
    """Anna's swarm at a time of our choice."""

    def __init__(self):
        self.now_s = NOW_S
        serials = itertools.count(1)
        self.founder = Founder(SWARM, ANNAS, SETTINGS, lambda: self.now_s, lambda: next(serials))

    def ends_s(self, keys, admission):
        shown = Membership(keys, admission.certificate.encode(), admission.authority.encode())
        assert check(shown.certificate_der, SWARM.swarm, self.now_s) == keys.peer
        return shown.expires_s


@pytest.fixture
def town():
    return Town()


def test_the_founder_is_a_member_of_its_own_swarm(town):
    membership = town.founder.membership()
    assert membership.keys.peer == ANNA
    assert membership.swarm == SWARM.swarm
    assert membership.expires_s == pytest.approx(NOW_S + 1000, abs=1)


def test_the_invited_get_a_certificate_whom_to_dial_and_what_runs(town):
    running = RunningModel(ModelId("ab" * 32), "storyteller", "numpy", "fp32")
    town.founder.models = (running,)
    town.founder.contacts = lambda: [
        Contact(peer_id(number), "tcp:h:1") for number in range(MOST_CONTACTS + 5)
    ]
    admission = town.founder.decide(knock_with(BENS, ANNA, town.founder.invite()), None)
    assert town.ends_s(BENS, admission) == pytest.approx(NOW_S + 1000, abs=1)
    assert admission.models == (running,)
    assert len(admission.contacts) == MOST_CONTACTS
    assert admission.contacts[0].peer == peer_id(0)


def test_an_invite_lasts_as_long_as_the_settings_say(town):
    invite = town.founder.invite()
    town.now_s += 99.9
    town.founder.decide(knock_with(BENS, ANNA, invite), None)
    town.now_s += 0.1
    with pytest.raises(PeerError, match="expired"):
        town.founder.decide(knock_with(BENS, ANNA, invite), None)


def test_a_member_is_renewed_long_after_its_invite(town):
    town.now_s += 5000
    admission = town.founder.decide(knock_with(BENS, ANNA, None), BEN)
    assert town.ends_s(BENS, admission) == pytest.approx(NOW_S + 6000, abs=1)


@pytest.mark.parametrize("shown", [None, CLEO, ANNA])
def test_who_shows_no_certificate_of_its_own_needs_an_invite(town, shown):
    with pytest.raises(PeerError, match="an invite is needed"):
        town.founder.decide(knock_with(BENS, ANNA, None), shown)


def test_a_proof_is_for_one_door_one_key_and_one_invite(town):
    invite, other = town.founder.invite(), town.founder.invite()
    honest = knock_with(BENS, ANNA, invite)
    for forged in (
        replace(honest, peer=CLEO),
        replace(honest, proof=knock_with(CLEOS, ANNA, invite).proof),
        replace(honest, proof=knock_with(BENS, ANNA, other).proof),
        replace(honest, proof=knock_with(BENS, ANNA, None).proof),
        replace(honest, proof="0" * 128),
        replace(honest, proof=honest.proof.upper()),
        # said at Cleo's door, and carried to Anna's by Cleo
        replace(honest, proof=knock_with(BENS, CLEO, make_invite(CLEO, invite.secret)).proof),
    ):
        with pytest.raises(PeerError, match="does not hold the key"):
            town.founder.decide(forged, BEN)
    town.founder.decide(honest, None)


@given(st.integers(), st.text(), st.text(), st.text(), st.text())
def test_whatever_a_stranger_says_is_refused_with_an_error_of_ours(
    protocol, software, peer, secret, proof
):
    town = Town()
    honest = knock_with(BENS, ANNA, None)
    knocks = [
        replace(honest, protocol=protocol, software=software, peer=peer, proof=proof),
        replace(honest, secret=secret),
        replace(honest, software=software),
    ]
    for knock in knocks:
        with pytest.raises(ManyhandsError):
            town.founder.decide(knock, None)


@pytest.mark.parametrize("secret", ["zz", "abc", "ab" * 16, " ", "ab " * 16])
def test_a_secret_that_is_none_of_ours_is_refused(town, secret):
    invite = town.founder.invite()
    # signed as it should be: only the secret is wrong
    wrong = knock_with(BENS, ANNA, replace(invite, secret=Written(secret)))
    with pytest.raises(PeerError, match=r"hex digits|not known here"):
        town.founder.decide(wrong, None)


class Written(bytes):
    """A secret that is written as nobody should."""

    def __new__(cls, text: str):
        made = super().__new__(cls, b"")
        made.text = text
        return made

    def hex(self) -> str:
        return self.text


@pytest.mark.parametrize("protocol", [0, 2, -1, 10**30])
def test_another_version_is_told_before_anything_else_is_looked_at(town, protocol):
    knock = replace(knock_with(BENS, ANNA, town.founder.invite()), protocol=protocol, proof="")
    with pytest.raises(VersionMismatch, match="install the same version"):
        town.founder.decide(knock, None)


def test_the_cas_own_key_cannot_join(town):
    with pytest.raises(ManyhandsError, match="cannot be a peer"):
        town.founder.decide(knock_with(SWARM.keys, ANNA, town.founder.invite()), None)


def test_no_secret_goes_to_another_key_than_the_invites(town):
    with pytest.raises(PeerError, match=rf"shows key {CLEO[:8]}.* nothing was told"):
        knock_with(BENS, CLEO, town.founder.invite())


def test_every_invite_and_every_certificate_is_another(town):
    assert len({town.founder.invite().text for _ in range(50)}) == 50
    knock = knock_with(BENS, ANNA, town.founder.invite())
    first, second = town.founder.decide(knock, None), town.founder.decide(knock, None)
    assert first.certificate != second.certificate


async def test_whoever_waits_for_an_invite_hears_of_its_use_and_of_no_other(town):
    mine, other = town.founder.invite(), town.founder.invite()
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(town.founder.used(mine))
        town.founder.decide(knock_with(BENS, ANNA, None), BEN)
        town.founder.decide(knock_with(BENS, ANNA, other), None)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not telling.done()
        town.founder.decide(knock_with(CLEOS, ANNA, mine), None)
        await telling
    await town.founder.used(other)


def test_contacts_are_the_members_with_an_address_the_founder_before_the_others():
    seen = swarm(record(1), record(2), record(3), replace(record(4), address=""))
    found = contacts_in(seen, peer_id(3))
    assert [contact.peer for contact in found] == [peer_id(3), peer_id(1), peer_id(2)]
    assert all(contact.address == "memory" for contact in found)


@pytest.mark.parametrize("address", ["x" * 201, "\x1b[2J", "tcp:b\u00fccher:1"])
def test_an_address_that_the_door_would_refuse_keeps_no_newcomer_out(town, address):
    seen = swarm(record(1), replace(record(2), address=address))
    town.founder.contacts = lambda: contacts_in(seen, peer_id(2))
    admission = town.founder.decide(knock_with(BENS, ANNA, town.founder.invite()), None)
    assert [contact.peer for contact in admission.contacts] == [peer_id(1)]
    assert door.read(door.write(admission)[door.LENGTH.size :]) == admission


def test_a_guest_is_admitted_for_its_time_only(town):
    invite = town.founder.invite(life_s=500.0, guest_s=60.0)
    town.now_s += 499
    admission = town.founder.decide(knock_with(BENS, ANNA, invite), None)
    assert town.ends_s(BENS, admission) == pytest.approx(town.now_s + 60, abs=1)
    long = town.founder.invite(guest_s=1e6)
    admission = town.founder.decide(knock_with(CLEOS, ANNA, long), None)
    assert town.ends_s(CLEOS, admission) == pytest.approx(town.now_s + 1000, abs=1)  # as others


def test_a_key_that_is_at_work_elsewhere_is_a_copy_and_is_refused(town):
    town.founder.at_work = {BEN: "tcp:10.0.0.5:7701"}.get
    invite = town.founder.invite()
    for copied in (knock_with(BENS, ANNA, invite), knock_with(BENS, ANNA, None)):
        with pytest.raises(PeerError, match=r"at work already at tcp:10.0.0.5:7701.*delete"):
            town.founder.decide(copied, BEN)
    with pytest.raises(PeerError, match="at work already"):
        town.founder.challenge(Newcomer(BENS, "ben", b"n" * 32, lambda _: None).ask(ANNA))
    # itself it is that renews, and the invite was not used up by the copy
    town.founder.decide(knock_with(BENS, ANNA, None, "tcp:10.0.0.5:7701"), BEN)
    town.founder.decide(knock_with(CLEOS, ANNA, invite), None)
