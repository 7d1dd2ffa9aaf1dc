"""An invite with the way to its door in one text: read back however it was pasted, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.errors import UserError
from manyhands.launch.joining import DoorAddress
from manyhands.launch.link import MOST_DOORS, SCHEME, Link, is_link, read_link, write_link
from manyhands.trust.invite import make_invite
from manyhands.trust.signature import KeyPair

INVITE = make_invite(KeyPair.from_seed(b"n" * 32).peer, b"0" * 16)
DOOR = DoorAddress("10.77.0.1", 7702)
PORTS = st.integers(1, 65535)
HOSTS = st.one_of(st.ip_addresses().map(str), st.just("laptop-anna.local"))


@given(st.lists(st.builds(DoorAddress, HOSTS, PORTS), min_size=1, max_size=MOST_DOORS))
def test_a_link_is_read_as_it_was_written_also_in_capitals(doors):
    link = write_link(doors, INVITE)
    assert is_link(link)
    for pasted in (link, link.upper(), f"  {link}/\n", link.replace("-", "-\n")):
        read = read_link(pasted)
        assert read == Link(tuple(doors), INVITE)


def test_no_more_addresses_are_told_than_are_read():
    assert len(read_link(write_link([DOOR] * 20, INVITE)).doors) == MOST_DOORS


@pytest.mark.parametrize(
    "text",
    [
        "",
        SCHEME,
        INVITE.text,
        f"{SCHEME}{INVITE.text}",
        f"{SCHEME}10.77.0.1:7702",
        f"{SCHEME}/{INVITE.text}",
        f"{SCHEME}10.77.0.1:99999/{INVITE.text}",
        f"{SCHEME}10.77.0.1:7702/{INVITE.text[:-3]}",
        f"{SCHEME}{'+'.join(['10.77.0.1:7702'] * 7)}/{INVITE.text}",
        f"https://10.77.0.1:7702/{INVITE.text}",
        "\x1b[2J",
    ],
)
def test_anything_else_is_the_users_error_in_few_words(text):
    with pytest.raises(UserError) as told:
        read_link(text)
    assert len(str(told.value)) < 300


@given(st.text())
def test_no_text_breaks_the_reader(text):
    for one in (text, SCHEME + text):
        with pytest.raises(UserError):
            read_link(one)
