"""Invites: what is pasted is what was made, anything else is told so, and each lets one peer in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.errors import PeerError, UserError
from manyhands.trust.invite import (
    SECRET_BYTES,
    OpenInvites,
    fingerprint,
    make_invite,
    read_invite,
)
from manyhands.trust.signature import KeyPair

ANNA, BEN = (KeyPair.from_seed(bytes([number]) * 32).peer for number in (1, 2))
SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
INVITE = make_invite(ANNA, b"0123456789abcdef")


@given(SECRETS, st.randoms(use_true_random=False))
def test_an_invite_is_read_from_its_text_however_it_was_pasted(secret, chance):
    invite = make_invite(ANNA, secret)
    pasted = "".join(
        chance.choice([sign.upper(), sign, f"{sign} ", f"\n{sign}"]) for sign in invite.text
    )
    assert read_invite(invite.text) == invite
    assert read_invite(pasted) == invite
    assert read_invite(invite.text.replace("-", "")) == invite


def test_the_text_of_an_invite_is_always_the_same():
    # written down in many a chat: another form would need another prefix
    assert INVITE.text == ("mh1-a6zk4v-aeufhk-vl7src-rgzclq-gqydcm-rtgq2t-mnzyhf-qwey3e-mvtci3-a")


@given(st.data())
def test_one_wrong_letter_is_noticed(data):
    text = INVITE.text
    place = data.draw(st.integers(0, len(text) - 2).filter(lambda at: text[at] != "-"))
    letters = "abcdefghijklmnopqrstuvwxyz234567".replace(text[place], "")
    wrong = text[:place] + data.draw(st.sampled_from(letters)) + text[place + 1 :]
    with pytest.raises(UserError):
        read_invite(wrong)


@given(st.one_of(st.text(), st.text().map(lambda text: f"mh1-{text}")))
def test_anything_else_is_the_users_error_in_few_words(text):
    with pytest.raises(UserError) as told:
        read_invite(text)
    assert len(str(told.value)) < 400


@given(st.integers(0, len(INVITE.text) - 2))
def test_an_invite_that_is_cut_short_is_noticed(length):
    with pytest.raises(UserError):
        read_invite(INVITE.text[:length])


def test_an_invite_names_one_door_and_does_not_show_its_secret():
    assert INVITE.is_for(ANNA)
    assert not INVITE.is_for(BEN)
    assert INVITE.secret.hex() not in repr(INVITE)
    assert repr(INVITE.secret) not in repr(INVITE)
    assert fingerprint(ANNA).hex() in repr(INVITE)


def test_a_secret_of_another_length_is_refused():
    with pytest.raises(UserError, match="16 bytes, this one 15"):
        make_invite(ANNA, b"0" * 15)


def test_an_invite_lets_one_peer_in_and_that_one_again_until_it_ends():
    invites = OpenInvites()
    invites.add(INVITE, until_s=100.0)
    invites.use(INVITE.secret, ANNA, 50.0)
    invites.use(INVITE.secret, ANNA, 99.9)  # the answer to the first may have been lost
    with pytest.raises(PeerError, match="used already"):
        invites.use(INVITE.secret, BEN, 60.0)
    with pytest.raises(PeerError, match="expired"):
        invites.use(INVITE.secret, ANNA, 100.0)


def test_an_invite_that_expired_unused_lets_nobody_in():
    invites = OpenInvites()
    invites.add(INVITE, until_s=100.0)
    with pytest.raises(PeerError, match="expired"):
        invites.use(INVITE.secret, ANNA, 100.0)


@given(st.binary(max_size=64).filter(lambda secret: secret != INVITE.secret))
def test_a_guessed_secret_lets_nobody_in_and_uses_up_nothing(secret):
    invites = OpenInvites()
    invites.add(INVITE, until_s=100.0)
    with pytest.raises(PeerError, match="not known here"):
        invites.use(secret, BEN, 0.0)
    invites.use(INVITE.secret, ANNA, 0.0)


def test_a_guest_has_its_time_from_when_it_came_in_first():
    invites = OpenInvites()
    invites.add(INVITE, 1000.0, guest_s=60.0)
    assert invites.use(INVITE.secret, BEN, 100.0) == 160.0
    assert invites.use(INVITE.secret, BEN, 150.0) == 160.0  # coming again makes it no longer
    with pytest.raises(PeerError, match="is over"):
        invites.use(INVITE.secret, BEN, 160.0)
    with pytest.raises(PeerError, match="used already"):
        invites.use(INVITE.secret, ANNA, 120.0)
