"""Invites: a short text that lets one more peer into a swarm, once, until it expires.

It names whom to trust (the key that answers at the door) and holds a secret that only the invited
know. Pure: the secret's random bytes and the time are arguments.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from manyhands.domain.ids import PeerId
from manyhands.errors import PeerError, UserError

PREFIX = "mh1"
SECRET_BYTES = 16
FINGERPRINT_BYTES = 16
"""Of SHA-256 of the door's key: finding another key with the same takes 2^128 tries."""

CHECK_BYTES = 2
"""So that a mistyped invite is known as such before anybody is dialled."""

_GROUP = 6


@dataclass(frozen=True, slots=True)
class Invite:
    """`fingerprint` is of the key that must answer; `secret` is shown to that one only."""

    fingerprint: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Invite(fingerprint={self.fingerprint.hex()})"

    @property
    def text(self) -> str:
        """What is sent to the invited: letters and digits in groups, case does not matter."""
        body = self.fingerprint + self.secret
        plain = base64.b32encode(body + _check(body)).decode("ascii").rstrip("=").lower()
        groups = [plain[at : at + _GROUP] for at in range(0, len(plain), _GROUP)]
        return "-".join([PREFIX, *groups])

    def is_for(self, door: PeerId) -> bool:
        """True when the key that answered is the one this invite names."""
        return hmac.compare_digest(self.fingerprint, fingerprint(door))


def fingerprint(peer: PeerId) -> bytes:
    """What an invite says of a key."""
    return hashlib.sha256(b"manyhands door\x00" + bytes.fromhex(peer)).digest()[:FINGERPRINT_BYTES]


def make_invite(door: PeerId, secret: bytes) -> Invite:
    """An invite to the door of `door`. Raises UserError unless `secret` has SECRET_BYTES bytes."""
    if len(secret) != SECRET_BYTES:
        raise UserError(f"an invite's secret has {SECRET_BYTES} bytes, this one {len(secret)}")
    return Invite(fingerprint(door), secret)


def read_invite(text: str) -> Invite:
    """The invite that a person pasted or typed; spaces and case do not matter.

    Raises UserError for anything else.
    """
    plain = "".join(text.split()).replace("-", "").lower()
    if not plain.startswith(PREFIX):
        raise UserError(f"{text[:80]!r} is no invite; an invite begins with {PREFIX}-")
    letters = plain[len(PREFIX) :].upper()
    try:
        whole = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError) as error:
        raise UserError(f"this invite is mistyped ({error}); copy it once more, whole") from error
    body, check = whole[:-CHECK_BYTES], whole[-CHECK_BYTES:]
    if len(body) != FINGERPRINT_BYTES + SECRET_BYTES or check != _check(body):
        raise UserError("this invite is mistyped or cut short; copy it once more, whole")
    return Invite(body[:FINGERPRINT_BYTES], body[FINGERPRINT_BYTES:])


class OpenInvites:
    """The invites that were given out, and who used which, by their secrets' digests."""

    def __init__(self) -> None:
        self._until_s: dict[bytes, float] = {}
        self._guest_s: dict[bytes, float] = {}
        self._used: dict[bytes, tuple[PeerId, float]] = {}

    def add(self, invite: Invite, until_s: float, guest_s: float | None = None) -> None:
        """From now on this invite lets one peer in, until `until_s` (unix seconds).

        With `guest_s` as a guest, for so long from when it comes in first.
        """
        self._until_s[_digest(invite.secret)] = until_s
        if guest_s is not None:
            self._guest_s[_digest(invite.secret)] = guest_s

    def is_used(self, invite: Invite) -> bool:
        """True once somebody was let in by it."""
        return _digest(invite.secret) in self._used

    def use(self, secret: bytes, peer: PeerId, now_s: float) -> float | None:
        """Take an invite: until when it makes a guest (unix seconds), None for a member.

        The same peer may take it again, its answer may have been lost. Raises PeerError: not one of
        ours, used by another, expired.
        """
        name = _digest(secret)
        until_s = self._until_s.get(name)
        if until_s is None:
            raise PeerError(
                "this invite is not known here; it is another swarm's, or whoever gave it was "
                "started anew since: ask for another one"
            )
        if now_s >= until_s:
            raise PeerError("this invite has expired; ask for another one")
        first, since_s = self._used.setdefault(name, (peer, now_s))
        if first != peer:
            raise PeerError("this invite was used already; ask for another one")
        if name not in self._guest_s:
            return None
        ends_s = since_s + self._guest_s[name]
        if now_s >= ends_s:
            raise PeerError("the time that this invite was for is over; ask for another one")
        return ends_s


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(b"manyhands invite\x00" + secret).digest()


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"manyhands invite check\x00" + body).digest()[:CHECK_BYTES]
