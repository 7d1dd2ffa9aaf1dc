"""Ed25519 signatures over canonical bytes, each bound to the purpose it was made for.

Knows no files and no chance: the seed of a key is an argument.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from manyhands.domain.ids import PeerId, canonical_bytes, is_hex
from manyhands.domain.messages import SignedRecord
from manyhands.domain.swarm import PeerRecord
from manyhands.errors import UserError

SEED_BYTES = 32
SIGNATURE_DIGITS = 128
RECORD_PURPOSE = "manyhands record"


class KeyPair:
    """A peer's key. Its repr shows the public half only."""

    __slots__ = ("_private", "peer")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.peer = PeerId(private.public_key().public_bytes_raw().hex())

    @classmethod
    def from_seed(cls, seed: bytes) -> KeyPair:
        """The key of 32 secret bytes (RFC 8032), always the same. Raises UserError."""
        if len(seed) != SEED_BYTES:
            raise UserError(f"a key's seed has {SEED_BYTES} bytes, this one {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def __repr__(self) -> str:
        return f"KeyPair(peer={self.peer!r})"

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The secret half, for certificates and TLS; it must never lie anywhere in clear."""
        return self._private

    def sign_bytes(self, message: bytes) -> bytes:
        """The 64 bytes of the signature of `message`."""
        return self._private.sign(message)


def sign(key: KeyPair, purpose: str, value: Any) -> str:
    """The signature of `value` for `purpose`, 128 hex digits; always the same for the same three.

    Raises TypeError or ValueError for what has no canonical bytes (`domain.ids.canonical_bytes`).
    """
    return key.sign_bytes(_message(purpose, value)).hex()


def verify(peer: PeerId, purpose: str, value: Any, signature: str) -> bool:
    """True when `peer` signed exactly `value` for exactly `purpose`; garbage is False, no error."""
    if not (_is_hex(peer, 64) and _is_hex(signature, SIGNATURE_DIGITS)):
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(peer))
        public.verify(bytes.fromhex(signature), _message(purpose, value))
    except (InvalidSignature, ValueError, TypeError, RecursionError):
        # all but the first: a key that is no point of the curve, a value that is no data
        return False
    return True


def sign_record(key: KeyPair, record: PeerRecord) -> SignedRecord:
    """`record`, signed by the peer it speaks for. Raises UserError when that is another peer."""
    if record.peer != key.peer:
        raise UserError(
            f"a record of peer {record.peer[:8]} cannot be signed by {key.peer[:8]}; only a peer "
            f"itself may speak for itself"
        )
    return SignedRecord(record, sign(key, RECORD_PURPOSE, record))


def verify_record(signed: SignedRecord) -> bool:
    """True when the record's own peer signed it."""
    return verify(signed.record.peer, RECORD_PURPOSE, signed.record, signed.signature)


def _is_hex(text: object, digits: int) -> bool:
    return isinstance(text, str) and is_hex(text, digits)


def _message(purpose: str, value: Any) -> bytes:
    # Purposes are constants of the code without a zero byte, which ends them here: so no purpose
    # and value can read as another purpose and value.
    return purpose.encode() + b"\x00" + canonical_bytes(value)
