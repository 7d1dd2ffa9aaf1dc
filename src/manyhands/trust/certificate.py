"""Membership of a swarm: certificates that its own CA signs for the keys of its peers.

A swarm is named by its CA's Ed25519 key, a peer by its own; whatever else a certificate says is for
people who look at it. Knows no sockets, no clock (unix seconds are arguments) and no chance (serial
numbers are arguments). No certificate but the CA's own may sign another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from manyhands.domain.ids import PeerId, is_hex, short
from manyhands.errors import PeerError, ProtocolError, UserError
from manyhands.trust.signature import KeyPair

SKEW_S = 300
"""A certificate counts from so long before it was made: clocks of peers differ."""

AUTHORITY_NAME, PEER_NAME = "manyhands swarm", "manyhands peer"
GUEST_NAME = "manyhands guest"
"""Of one who was let in for a time: its membership is not renewed."""

_LAST_SERIAL = 2**159 - 1  # RFC 5280: 20 octets, positive


@dataclass(frozen=True, slots=True)
class Authority:
    """A swarm's CA, as its founders hold it: the key, and the certificate that members know."""

    keys: KeyPair
    certificate_pem: bytes

    @property
    def swarm(self) -> str:
        """The swarm's id: the CA's public key, 64 hex digits."""
        return self.keys.peer


@dataclass(frozen=True, slots=True)
class Membership:
    """What a peer shows and what it believes: its key, its certificate, its swarm's.

    Raises UserError when the three do not belong together; of times it knows nothing (`check`).
    """

    keys: KeyPair
    certificate_pem: bytes
    authority_pem: bytes

    def __post_init__(self) -> None:
        try:
            authority, own = _from_pem(self.authority_pem), _from_pem(self.certificate_pem)
            swarm, peer = _key_of(authority), _key_of(own)
            _must_be_signed(authority, swarm)
            _must_be_signed(own, swarm)
        except (PeerError, ProtocolError) as error:
            raise UserError(f"this membership cannot be used: {error}") from error
        if peer != self.keys.peer:
            raise UserError(
                f"the certificate is of peer {short(peer)} and the key of "
                f"{short(self.keys.peer)}; every peer needs one of its own, ask to be admitted"
            )

    @property
    def swarm(self) -> str:
        """The swarm's id."""
        return _key_of(_from_pem(self.authority_pem))

    @property
    def certificate_der(self) -> bytes:
        """Our certificate as TLS sends it."""
        return _from_pem(self.certificate_pem).public_bytes(Encoding.DER)

    @property
    def is_guest(self) -> bool:
        """True when it will not be renewed."""
        return is_guest(self.certificate_der)

    @property
    def expires_s(self) -> float:
        """From then on nobody lets us in (unix seconds); renew before."""
        return expires_s(self.certificate_der)


def found(keys: KeyPair, now_s: float, life_s: float, serial: int) -> Authority:
    """A new swarm's CA. Raises UserError for a senseless life or serial number."""
    name = _name(AUTHORITY_NAME, keys.peer)
    builder = (
        _begun(name, name, keys, keys.peer, now_s, life_s, serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    signed = builder.sign(keys.private_key, None)
    return Authority(keys, signed.public_bytes(Encoding.PEM))


def admit(
    authority: Authority,
    peer: PeerId,
    now_s: float,
    life_s: float,
    serial: int,
    *,
    is_guest: bool = False,
) -> bytes:
    """A certificate (PEM) that `peer` is a member for `life_s` seconds, as server and as client.

    To be short-lived: a member that is no longer welcome is one whose certificate is not renewed.
    Raises UserError for a name that is no key, for the CA's own key, a senseless life or serial.
    """
    if not is_hex(peer, 64):
        raise UserError(f"{peer[:80]!r} is no peer; a peer is its public key, 64 hex digits")
    if peer == authority.swarm:
        raise UserError("the CA's key cannot be a peer's as well; the peer needs a key of its own")
    uses = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
    issuer = _name(AUTHORITY_NAME, authority.swarm)
    subject = _name(GUEST_NAME if is_guest else PEER_NAME, peer)
    builder = (
        _begun(subject, issuer, authority.keys, peer, now_s, life_s, serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"manyhands:{peer}")]),
            critical=False,
        )
    )
    return builder.sign(authority.keys.private_key, None).public_bytes(Encoding.PEM)


def peer_of(certificate_der: bytes) -> PeerId:
    """Whose certificate this is: its Ed25519 key. Proves nothing by itself; see `check`.

    Raises ProtocolError for what is no certificate, and for keys of other kinds.
    """
    return PeerId(_key_of(_from_der(certificate_der)))


def is_guest(certificate_der: bytes) -> bool:
    """True for a certificate that is not renewed. Raises ProtocolError for what is none."""
    names = _from_der(certificate_der).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [name.value for name in names] == [GUEST_NAME]


def expires_s(certificate_der: bytes) -> float:
    """When a certificate ends, in unix seconds. Raises ProtocolError for what is none."""
    return _from_der(certificate_der).not_valid_after_utc.timestamp()


def check(certificate_der: bytes, swarm: str, now_s: float) -> PeerId:
    """The member of `swarm` that this certificate admits now; for links that are not TLS's own.

    What TLS checks of the chain, in pure form: signed by the CA itself, in its time, not one that
    signs others. Raises PeerError when it does not admit, ProtocolError when it is none of ours.
    """
    certificate = _from_der(certificate_der)
    peer = PeerId(_key_of(certificate))
    _must_be_signed(certificate, swarm)
    first_s = certificate.not_valid_before_utc.timestamp()
    last_s = certificate.not_valid_after_utc.timestamp()
    if not first_s <= now_s <= last_s:
        said = "begins" if now_s < first_s else "ended"
        when = datetime.fromtimestamp(first_s if now_s < first_s else last_s, UTC)
        raise PeerError(
            f"the membership of peer {short(peer)} {said} at {when:%Y-%m-%d %H:%M:%S} UTC; renew "
            f"it, or set this machine's clock"
        )
    if peer == swarm or _may_sign(certificate):
        raise PeerError(f"the certificate of {short(peer)} is a CA's, not a member's")
    return peer


def check_pem(certificate: str, authority: str, now_s: float) -> float:
    """Until when (unix seconds) a membership of this CA admits. Raises what `check` raises."""
    der = _from_pem(certificate.encode()).public_bytes(Encoding.DER)
    check(der, _key_of(_from_pem(authority.encode())), now_s)
    return expires_s(der)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    signer: KeyPair,
    peer: str,
    now_s: float,
    life_s: float,
    serial: int,
) -> x509.CertificateBuilder:
    if not life_s > 0:
        raise UserError(f"a certificate's life is {life_s} s; it must be above 0")
    if not 0 < serial <= _LAST_SERIAL:
        raise UserError(f"a certificate's serial number must be in [1, 2^159), this is {serial}")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(peer))
    signer_key = signer.private_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(now_s - SKEW_S, UTC))
        .not_valid_after(datetime.fromtimestamp(now_s + life_s, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key), critical=False
        )
    )


def _name(kind: str, key: str) -> x509.Name:
    # the kinds keep a CA and a member apart by name as well, so that no chain begins with a member
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, kind),
            x509.NameAttribute(NameOID.COMMON_NAME, key),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _from_pem(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise ProtocolError(f"this is no certificate in PEM form: {error}") from error


def _from_der(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise ProtocolError(f"these {len(der)} bytes are no certificate: {error}") from error


def _key_of(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError) as error:
        raise ProtocolError(f"the certificate's key cannot be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ProtocolError(
            f"the certificate's key is {type(key).__name__}; a peer's key is Ed25519"
        )
    return key.public_bytes_raw().hex()


def _must_be_signed(certificate: x509.Certificate, swarm: str) -> None:
    """Raise PeerError unless the CA `swarm` signed it."""
    if not _is_signed(certificate, swarm):
        raise PeerError(
            f"the certificate of {short(_key_of(certificate))} is not signed by swarm "
            f"{short(swarm)}; its peer must be admitted there"
        )


def _is_signed(certificate: x509.Certificate, swarm: str) -> bool:
    # the signature does not cover this field, so another word there would be let through
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ED25519:
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(swarm))
        public.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except (InvalidSignature, ValueError):
        return False
    return True


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        found_in = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return True  # not one of ours: `admit` always says that it may not
    return found_in.value.ca
