"""Certificates: a member of the swarm, in its time, signed by the CA itself, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.ids import PeerId
from manyhands.errors import PeerError, ProtocolError, UserError
from manyhands.trust.certificate import (
    SKEW_S,
    Authority,
    Membership,
    admit,
    check,
    found,
    peer_of,
)
from manyhands.trust.signature import KeyPair

NOW_S, LIFE_S = 1.8e9, 3600.0
CA, OTHER_CA, ANNA, BEN = (KeyPair.from_seed(letter * 32) for letter in (b"c", b"o", b"a", b"b"))
SWARM = found(CA, NOW_S, 10 * LIFE_S, 1)
OTHER_SWARM = found(OTHER_CA, NOW_S, 10 * LIFE_S, 1)


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def admitted(peer: PeerId = ANNA.peer, swarm: Authority = SWARM) -> bytes:
    return admit(swarm, peer, NOW_S, LIFE_S, 5)


def ca_of_a_member(authority: Authority, keys: KeyPair) -> bytes:
    """A certificate signed by the CA that makes `keys` a CA too: what `admit` must never make."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    start = datetime.fromtimestamp(NOW_S, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(keys.private_key.public_key())
        .serial_number(3)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(authority.keys.private_key, None).public_bytes(Encoding.PEM)


def with_another_kind_of_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ANNA.peer)])
    start = datetime.fromtimestamp(NOW_S, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(3)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(hours=1))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**159 - 1))
def test_a_certificate_says_whose_it_is_and_admits_that_peer(seed, serial):
    peer = KeyPair.from_seed(seed).peer
    certificate = der(admit(SWARM, peer, NOW_S, LIFE_S, serial))
    assert peer_of(certificate) == peer
    assert check(certificate, SWARM.swarm, NOW_S) == peer


def test_the_same_arguments_give_the_same_certificate():
    assert admitted() == admitted()
    assert found(CA, NOW_S, 10 * LIFE_S, 1) == SWARM
    assert SWARM.swarm == CA.peer


def test_a_certificate_carries_its_peer_for_people_and_both_uses_for_tls():
    made = x509.load_pem_x509_certificate(admitted())
    uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == ANNA.peer
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"manyhands:{ANNA.peer}"]
    assert set(uses) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert made.serial_number == 5


@pytest.mark.parametrize("at_s", [NOW_S + LIFE_S + 1, NOW_S + 1e6])
def test_an_expired_certificate_admits_nobody(at_s):
    with pytest.raises(PeerError, match="ended at"):
        check(der(admitted()), SWARM.swarm, at_s)


def test_a_certificate_counts_a_little_before_its_time_but_not_more():
    assert check(der(admitted()), SWARM.swarm, NOW_S - SKEW_S) == ANNA.peer
    with pytest.raises(PeerError, match="begins at"):
        check(der(admitted()), SWARM.swarm, NOW_S - SKEW_S - 1)


def test_a_certificate_of_another_swarm_admits_nobody():
    with pytest.raises(PeerError, match="not signed by swarm"):
        check(der(admitted(swarm=OTHER_SWARM)), SWARM.swarm, NOW_S)


def test_a_key_that_is_not_ed25519_is_nobodys():
    with pytest.raises(ProtocolError, match="Ed25519"):
        peer_of(with_another_kind_of_key())
    with pytest.raises(ProtocolError, match="Ed25519"):
        check(with_another_kind_of_key(), SWARM.swarm, NOW_S)


@given(st.binary(max_size=300))
def test_garbage_is_a_protocol_error(garbage):
    with pytest.raises(ProtocolError):
        peer_of(garbage)


# a serial number made negative is warned of before it is refused
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_changed_bit_anywhere_admits_nobody():
    certificate = der(admitted())
    for bit in range(8 * len(certificate)):
        changed = bytearray(certificate)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((PeerError, ProtocolError)):
            check(bytes(changed), SWARM.swarm, NOW_S)


def test_a_member_cannot_admit_others():
    false_authority = Authority(ANNA, admitted())
    made = admit(false_authority, BEN.peer, NOW_S, LIFE_S, 6)
    with pytest.raises(PeerError):
        check(der(made), SWARM.swarm, NOW_S)
    with pytest.raises(UserError):
        Membership(BEN, made, admitted())


def test_a_member_that_could_sign_others_is_not_let_in():
    with pytest.raises(PeerError, match="CA's"):
        check(der(ca_of_a_member(SWARM, ANNA)), SWARM.swarm, NOW_S)


def test_the_cas_own_certificate_is_no_membership():
    with pytest.raises(PeerError, match="CA's"):
        check(der(SWARM.certificate_pem), SWARM.swarm, NOW_S)
    with pytest.raises(UserError, match="key of its own"):
        admitted(CA.peer)


def test_a_membership_knows_its_swarm_and_its_end():
    membership = Membership(ANNA, admitted(), SWARM.certificate_pem)
    assert membership.swarm == CA.peer
    assert membership.expires_s == NOW_S + LIFE_S
    assert check(membership.certificate_der, membership.swarm, NOW_S) == ANNA.peer
    assert "private" not in repr(membership).lower()


@pytest.mark.parametrize(
    ("keys", "certificate", "authority"),
    [
        (BEN, admitted(), SWARM.certificate_pem),
        (ANNA, admitted(swarm=OTHER_SWARM), SWARM.certificate_pem),
        (ANNA, admitted(), OTHER_SWARM.certificate_pem),
        (ANNA, b"nothing", SWARM.certificate_pem),
        (ANNA, admitted(), b""),
    ],
)
def test_a_membership_of_parts_that_do_not_belong_together_is_the_users_error(
    keys, certificate, authority
):
    with pytest.raises(UserError):
        Membership(keys, certificate, authority)


@pytest.mark.parametrize("peer", ["", "ab", "G" * 64, ANNA.peer.upper()])
def test_only_keys_are_admitted(peer):
    with pytest.raises(UserError, match="is no peer"):
        admitted(PeerId(peer))


@pytest.mark.parametrize(("life_s", "serial"), [(0, 1), (-1, 1), (1, 0), (1, -1), (1, 2**159)])
def test_senseless_lives_and_serials_are_the_users_error(life_s, serial):
    with pytest.raises(UserError):
        admit(SWARM, ANNA.peer, NOW_S, life_s, serial)
    with pytest.raises(UserError):
        found(CA, NOW_S, life_s, serial)


def test_a_guests_certificate_says_so_and_admits_as_any_other():
    from manyhands.trust.certificate import Membership, admit, check, is_guest

    keys = KeyPair.from_seed(b"g" * 32)
    for guest in (True, False):
        pem = admit(SWARM, keys.peer, NOW_S, 3600.0, 5, is_guest=guest)
        held = Membership(keys, pem, SWARM.certificate_pem)
        assert is_guest(held.certificate_der) is held.is_guest is guest
        assert check(held.certificate_der, SWARM.swarm, NOW_S) == keys.peer
