"""Signatures: right for one key, one purpose, one value, and false for everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.ids import PeerId
from manyhands.domain.messages import Announce, SignedRecord
from manyhands.errors import UserError
from manyhands.trust.signature import (
    KeyPair,
    sign,
    sign_record,
    verify,
    verify_record,
)
from manyhands.wire import schema
from wire_examples import RECORD

ANNA, BEN = KeyPair.from_seed(bytes(range(32))), KeyPair.from_seed(b"b" * 32)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def test_the_key_of_a_seed_is_that_of_rfc_8032():
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    empty = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
        "f9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    key = KeyPair.from_seed(bytes.fromhex(seed))
    assert key.peer == public
    assert key.sign_bytes(b"").hex() == empty


@given(values)
def test_a_signature_verifies_and_is_always_the_same(value):
    signature = sign(ANNA, "test", value)
    assert len(signature) == 128
    assert signature == sign(ANNA, "test", value)
    assert verify(ANNA.peer, "test", value, signature)


@given(values)
def test_another_key_purpose_or_value_is_false(value):
    signature = sign(ANNA, "test", value)
    assert not verify(BEN.peer, "test", value, signature)
    assert not verify(ANNA.peer, "tes", value, signature)
    assert not verify(ANNA.peer, "test", [value], signature)


@given(st.integers(0, 127), st.sampled_from("0123456789abcdef"))
def test_a_changed_signature_is_false(at, digit):
    signature = sign(ANNA, "test", 1)
    changed = signature[:at] + digit + signature[at + 1 :]
    assert verify(ANNA.peer, "test", 1, changed) == (changed == signature)


@given(st.text() | st.none() | st.binary(), st.text(), st.text() | st.none() | st.integers())
def test_garbage_is_false_and_raises_nothing(peer, purpose, signature):
    assert not verify(peer, purpose, 1, signature)


@pytest.mark.parametrize("value", ["nan", "object", "set", "long", "deep"])
def test_a_value_without_canonical_bytes_was_signed_by_nobody(value):
    deep: list = []
    deep.append(deep)
    strange = {"nan": float("nan"), "object": object(), "set": {1}, "long": 10**5000, "deep": deep}
    assert not verify(ANNA.peer, "test", strange[value], sign(ANNA, "test", 1))


@given(st.binary(min_size=32, max_size=32))
def test_keys_that_are_no_point_of_the_curve_are_false(public):
    assert not verify(PeerId(public.hex()), "test", 1, "00" * 64)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_has_32_bytes(size):
    with pytest.raises(UserError, match="32"):
        KeyPair.from_seed(bytes(size))


def test_a_key_does_not_show_its_secret():
    assert repr(ANNA) == f"KeyPair(peer='{ANNA.peer}')"
    assert bytes(range(32)).hex() not in repr(ANNA)


def test_a_record_is_signed_by_its_own_peer_and_by_nobody_else():
    record = replace(RECORD, peer=ANNA.peer)
    signed = sign_record(ANNA, record)
    assert verify_record(signed)
    with pytest.raises(UserError, match="for itself"):
        sign_record(BEN, record)
    assert not verify_record(replace(signed, record=replace(record, sequence=4)))
    assert not verify_record(replace(signed, record=replace(record, peer=BEN.peer)))
    assert not verify_record(SignedRecord(record, "garbage"))


def test_a_signed_record_survives_the_wire_also_when_its_floats_were_written_as_whole_numbers():
    record = replace(RECORD, peer=ANNA.peer, expires_s=1000, queue_s=0)
    sent = Announce((sign_record(ANNA, record),))
    (read,) = schema.decode(schema.encode(sent)).records
    assert isinstance(read.record.expires_s, float)
    assert verify_record(read)
