"""A swarm's CA and what its members hold, strangers included: for tests of certificates and TLS."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from manyhands.trust.certificate import Authority, Membership, admit, found
from manyhands.trust.signature import KeyPair

NOW_S = datetime.now(UTC).timestamp()
"""OpenSSL asks the system's clock, so certificates of these tests are made by it too."""

HOUR_S = 3600.0
SWARM = found(KeyPair.from_seed(b"s" * 32), NOW_S, 24 * HOUR_S, 1)
OTHER_SWARM = found(KeyPair.from_seed(b"o" * 32), NOW_S, 24 * HOUR_S, 1)


def member(
    keys: KeyPair,
    swarm: Authority = SWARM,
    *,
    since_s: float = NOW_S,
    life_s: float = HOUR_S,
    serial: int = 7,
) -> Membership:
    """What a peer of `swarm` holds, admitted at `since_s`."""
    certificate = admit(swarm, keys.peer, since_s, life_s, serial)
    return Membership(keys, certificate, swarm.certificate_pem)


def outdated(keys: KeyPair) -> Membership:
    """A membership that has ended."""
    return member(keys, since_s=NOW_S - 2 * HOUR_S)


def reckless(folder: Path, keys: KeyPair | None, *chain: bytes) -> ssl.SSLContext:
    """A client that takes any server, and shows `chain` (PEM), or nothing without `keys`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if keys is not None:
        path = folder / f"{keys.peer}.pem"
        key = keys.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(key + b"".join(chain))
        context.load_cert_chain(path)
    return context


def admitted_with_another_kind_of_key(folder: Path) -> Path:
    """A P-256 key and a certificate for it that the swarm signed, though `admit` never would."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(SWARM.certificate_pem)
    model = x509.load_pem_x509_certificate(member(SWARM.keys, OTHER_SWARM).certificate_pem)
    start = datetime.fromtimestamp(NOW_S, UTC)
    builder = x509.CertificateBuilder(
        issuer.subject, model.subject, key.public_key(), 3, start, start + timedelta(hours=1)
    )
    for extension in model.extensions:
        if extension.oid != x509.AuthorityKeyIdentifier.oid:
            builder = builder.add_extension(extension.value, extension.critical)
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    builder = builder.add_extension(authority_key, critical=False)
    made = builder.sign(SWARM.keys.private_key, None)
    path = folder / "p256.pem"
    clear = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(clear + made.public_bytes(Encoding.PEM))
    return path
