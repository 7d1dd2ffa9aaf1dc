"""Words at a door as bytes: each comes back as it was, and nothing else is taken for one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.admission import (
    About,
    Admission,
    Ask,
    Challenge,
    Contact,
    Knock,
    Look,
    NotAdmitted,
    Reveal,
    RunningModel,
)
from manyhands.domain.ids import ModelId, PeerId
from manyhands.errors import FrameError
from manyhands.wire.door import LENGTH, MOST_BYTES, MOST_MESSAGE, checked, read, write

PEERS = st.text("0123456789abcdef", min_size=64, max_size=64).map(PeerId)
NAMES = st.text(max_size=40).filter(str.isprintable)
KNOCKS = st.builds(Knock, st.integers(0, 9), NAMES, PEERS, st.text(), st.text())
MODELS = st.builds(RunningModel, NAMES.map(ModelId), NAMES, NAMES, NAMES)
ADMISSIONS = st.builds(
    Admission,
    st.text(),
    st.text(),
    st.lists(st.builds(Contact, PEERS, NAMES), max_size=3).map(tuple),
    st.lists(MODELS, max_size=2).map(tuple),
    st.floats(0, 1e12),
)
NUMBERS = st.text("0123456789abcdef", min_size=64, max_size=64)
ASKS = st.builds(Ask, st.integers(0, 9), NAMES, PEERS, NAMES, NUMBERS, st.text())
ABOUTS = st.builds(About, st.integers(0, 9), NAMES, PEERS, NAMES, st.floats(0, 1e12))
WORDS = st.one_of(
    KNOCKS,
    ASKS,
    st.builds(Challenge, NUMBERS),
    st.builds(Reveal, NUMBERS),
    st.builds(Look, st.integers(0, 9), NAMES),
    ABOUTS,
    ADMISSIONS,
    st.builds(NotAdmitted, NAMES, NAMES),
)
KNOCK = Knock(1, "manyhands", PeerId("ab" * 32), "", "")
MODEL = RunningModel(ModelId("cd" * 32), "storyteller", "numpy", "fp32")


def body(word) -> bytes:
    return write(word)[LENGTH.size :]


def changed(word, **said) -> bytes:
    """The word as bytes, with other values than it could have here."""
    told = json.loads(body(word))
    told["said"].update(said)
    return json.dumps(told).encode()


@given(WORDS)
def test_a_word_comes_back_as_it_was(word):
    data = write(word)
    assert LENGTH.unpack(data[: LENGTH.size]) == (len(data) - LENGTH.size,)
    assert read(data[LENGTH.size :]) == word


@given(
    st.one_of(
        st.binary(), st.text().map(str.encode), st.from_regex(r"[\[{\"]{0,9}").map(str.encode)
    )
)
def test_garbage_is_a_frame_error(data):
    with pytest.raises(FrameError):
        read(data)


@given(WORDS, st.data())
def test_a_word_that_is_cut_short_is_a_frame_error(word, data):
    whole = body(word)
    with pytest.raises(FrameError):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_what_is_too_large_is_known_by_its_length_alone():
    assert checked(MOST_BYTES) == MOST_BYTES
    with pytest.raises(FrameError, match="allowed"):
        checked(MOST_BYTES + 1)
    with pytest.raises(FrameError, match="allowed"):
        write(NotAdmitted("peer", "x" * MOST_BYTES))


@pytest.mark.parametrize(
    "said",
    [
        b'{"kind": "knock", "said": {}}',
        b'{"kind": "open sesame", "said": {}}',
        b'{"kind": "knock"}',
        b'{"kind": "knock", "said": null, "more": 1}',
        b'{"kind": ["knock"], "said": {}}',
        b'{"kind": "knock", "said": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"kind": "\xff", "said": {}}',
        changed(KNOCK, protocol="1"),
        changed(KNOCK, protocol=1.5),
        changed(KNOCK, peer=None),
    ],
)
def test_json_that_is_no_word_is_a_frame_error(said):
    with pytest.raises(FrameError, match="nothing that is said at a door"):
        read(said)


@pytest.mark.parametrize("name", ["\x1b[2Jgone", "two\nlines", "x" * 201, "\u202eback"])
def test_names_that_would_disturb_a_terminal_are_refused(name):
    with pytest.raises(FrameError) as told:
        read(changed(KNOCK, software=name))
    assert str(told.value).isprintable()
    for field in ("id", "name", "engine", "dtype"):
        model = {"id": "x", "name": "x", "engine": "x", "dtype": "x", field: name}
        with pytest.raises(FrameError):
            read(changed(Admission("", "", (), (), 0.0), models=[model]))
    with pytest.raises(FrameError):
        read(
            changed(Admission("", "", (), (), 0.0), contacts=[{"peer": "ab" * 32, "address": name}])
        )


@pytest.mark.parametrize("peer", ["", "ab" * 31, "AB" * 32, "\x1b" * 64, "ab" * 33])
def test_a_peer_that_is_no_key_is_refused(peer):
    with pytest.raises(FrameError, match="64 hex digits"):
        read(changed(KNOCK, peer=peer))
    with pytest.raises(FrameError, match="64 hex digits"):
        read(
            changed(Admission("", "", (), (), 0.0), contacts=[{"peer": peer, "address": "tcp:h:1"}])
        )


def test_a_refusal_that_would_disturb_a_terminal_is_made_readable():
    told = read(body(NotAdmitted("peer", "no\x1b[31m\nway" + "x" * 9999)))
    assert isinstance(told, NotAdmitted)
    assert told.message.startswith("no?[31m?way")
    assert len(told.message) == MOST_MESSAGE


@given(st.binary(max_size=60))
def test_errors_never_repeat_what_a_stranger_said_unprinted(data):
    kind = data.decode("latin-1")
    with pytest.raises(FrameError) as told:
        read(json.dumps({"kind": kind, "said": {}}).encode())
    assert str(told.value).isprintable()


@pytest.mark.parametrize("number", ["", "ab", "g" * 64, "AB" * 32, "ab" * 33, "\n" * 64])
def test_a_number_is_64_hex_digits(number):
    peer = PeerId("ab" * 32)
    for word in (Challenge(number), Reveal(number), Ask(1, "", peer, "", number, "")):
        with pytest.raises(FrameError, match="64 hex digits"):
            read(body(word))


@pytest.mark.parametrize("name", ["\x1b[2J", "x" * 201])
def test_a_device_and_a_swarm_have_names_that_a_terminal_may_show(name):
    for word in (Ask(1, "", PEER, name, "ab" * 32, ""), About(1, "", PEER, name, 0.0)):
        with pytest.raises(FrameError, match="no name"):
            read(body(word))


PEER = PeerId("ab" * 32)
