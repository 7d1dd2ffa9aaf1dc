"""The short code on two screens, by which people see that nobody stands between two devices.

Who asks commits to a random number, the door says one of its own, then the first is revealed; the
code is a digest of both numbers and both keys. Whoever stands between has other keys than the two
ends have, and must choose its numbers before it knows theirs, so its two codes are alike once in a
million tries, however much it computes. (Numeric comparison as in Bluetooth; Vaudenay, "Secure
communications over insecure channels based on short authenticated strings", 2005.) Pure: the
numbers are arguments.
"""

from __future__ import annotations

import hashlib
import hmac

from manyhands.domain.ids import PeerId
from manyhands.errors import UserError

NONCE_BYTES = 32
CODES = 10**6


def commitment(door: PeerId, peer: PeerId, nonce: bytes) -> str:
    """What `peer` says to `door` before it hears the door's number: 64 hex digits."""
    return _digest(b"manyhands commitment", door, peer, nonce).hex()


def is_commitment(said: str, door: PeerId, peer: PeerId, nonce: bytes) -> bool:
    """True when `said` was made of just these."""
    return hmac.compare_digest(said.encode(), commitment(door, peer, nonce).encode())


def short_code(door: PeerId, peer: PeerId, peers_nonce: bytes, doors_nonce: bytes) -> str:
    """What both screens show: six digits, as 012-345."""
    digest = _digest(b"manyhands short code", door, peer, peers_nonce, doors_nonce)
    digits = f"{int.from_bytes(digest[:8]) % CODES:06d}"
    return f"{digits[:3]}-{digits[3:]}"


def read_code(text: str) -> str:
    """The code that a person typed, with or without the dash. Raises UserError."""
    digits = "".join(text.split()).replace("-", "")
    if len(digits) != 6 or not (digits.isascii() and digits.isdigit()):
        raise UserError(f"{text[:80]!r} is no code; type the six digits that the new device shows")
    return f"{digits[:3]}-{digits[3:]}"


def _digest(purpose: bytes, door: PeerId, peer: PeerId, *nonces: bytes) -> bytes:
    for nonce in nonces:
        if len(nonce) != NONCE_BYTES:
            raise UserError(f"a number for a code has {NONCE_BYTES} bytes, this one {len(nonce)}")
    # all parts have one length each, so no two rows of parts are the same bytes
    parts = (bytes.fromhex(door), bytes.fromhex(peer), *nonces)
    return hashlib.sha256(b"\x00".join((purpose, b"".join(parts)))).digest()
