"""Who is let in: the swarm's founder signs the keys of the invited and the approved, and renews.

Knows no sockets: `net/door` brings the knocks.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable

from manyhands.domain.admission import (
    About,
    Admission,
    Ask,
    Challenge,
    Contact,
    Knock,
    Reveal,
    RunningModel,
)
from manyhands.domain.ids import PeerId, is_name, short
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.errors import PeerError, VersionMismatch
from manyhands.node.approvals import Approvals
from manyhands.node.newcomer import ASK_PURPOSE, device_name
from manyhands.node.peers import LAST_VERSION, SOFTWARE
from manyhands.trust.certificate import Authority, Membership, admit
from manyhands.trust.invite import SECRET_BYTES, Invite, OpenInvites, make_invite
from manyhands.trust.short_code import NONCE_BYTES, is_commitment, short_code
from manyhands.trust.signature import KeyPair, sign, verify

PROOF_PURPOSE = "manyhands knock"
MOST_CONTACTS = 16


class Founder:
    """Holds the swarm's CA. `now` is unix seconds, `serial` a new certificate's number.

    `clock` is for how long somebody waits; nobody sets it back.
    """

    def __init__(
        self,
        authority: Authority,
        keys: KeyPair,
        settings: Settings,
        now: Callable[[], float],
        serial: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "a swarm"
        """What its owner calls it."""
        self.models: tuple[RunningModel, ...] = ()
        self.contacts: Callable[[], Iterable[Contact]] = tuple
        self._authority, self._keys, self._settings = authority, keys, settings
        self._now, self._serial = now, serial
        self.approvals = Approvals(clock, settings.approval_wait_s)
        self._invites = OpenInvites()
        self._somebody_came = asyncio.Event()

    def membership(self) -> Membership:
        """The founder's own, from now on."""
        return Membership(
            self._keys, self._certificate(self._keys.peer), self._authority.certificate_pem
        )

    def invite(self) -> Invite:
        """A new invite: for one peer, for `invite_life_s`."""
        made = make_invite(self._keys.peer, secrets.token_bytes(SECRET_BYTES))
        self._invites.add(made, self._now() + self._settings.invite_life_s)
        return made

    async def used(self, invite: Invite) -> None:
        """Return once somebody came in by this invite."""
        while not self._invites.is_used(invite):
            await self._somebody_came.wait()

    def decide(self, knock: Knock, member: PeerId | None) -> Admission:
        """Admit who shows an open invite, or is a member that renews.

        Raises PeerError and VersionMismatch with what the one at the door should do.
        """
        _check_version(knock)
        if not verify(knock.peer, PROOF_PURPOSE, (self._keys.peer, knock.secret), knock.proof):
            raise PeerError("whoever knocks does not hold the key it names")
        if knock.secret:
            self._invites.use(_secret(knock.secret), knock.peer, self._now())
            self._somebody_came.set()
            self._somebody_came = asyncio.Event()
        elif member != knock.peer:
            raise PeerError("an invite is needed here; ask whoever runs the swarm for one")
        return self._admission(knock.peer)

    def about(self) -> About:
        """Whose door this is: what anybody may know."""
        swarm = self._authority.swarm
        return About(LAST_VERSION, SOFTWARE, swarm, device_name(self.name), self._now())

    def challenge(self, ask: Ask) -> Challenge:
        """Our number for one who asks, once its commitment is here.

        Raises PeerError and VersionMismatch with what the one at the door should do.
        """
        _check_version(ask)
        said = self._keys.peer, ask.name, ask.commitment
        if not verify(ask.peer, ASK_PURPOSE, said, ask.proof):
            raise PeerError("whoever asks does not hold the key it names")
        self.approvals.take_place()
        return Challenge(secrets.token_bytes(NONCE_BYTES).hex())

    async def approved(self, ask: Ask, challenge: Challenge, reveal: Reveal) -> Admission:
        """Admit who was asked for a number, once a person says so.

        Raises PeerError for a number that it did not commit to, and what a person's no, or
        silence, is.
        """
        door, nonce = self._keys.peer, bytes.fromhex(reveal.nonce)
        if not is_commitment(ask.commitment, door, ask.peer, nonce):
            raise PeerError("whoever asks has changed its number meanwhile")
        code = short_code(door, ask.peer, nonce, bytes.fromhex(challenge.nonce))
        await self.approvals.judged(ask.peer, device_name(ask.name), code)
        return self._admission(ask.peer)

    def _admission(self, peer: PeerId) -> Admission:
        return Admission(
            authority=self._authority.certificate_pem.decode("ascii"),
            certificate=self._certificate(peer).decode("ascii"),
            contacts=tuple(self.contacts())[:MOST_CONTACTS],
            models=self.models,
            now_s=self._now(),
        )

    def _certificate(self, peer: PeerId) -> bytes:
        return admit(
            self._authority, peer, self._now(), self._settings.certificate_life_s, self._serial()
        )


def knock_with(keys: KeyPair, door: PeerId, invite: Invite | None) -> Knock:
    """What to say at the door of `door`. Raises PeerError when the invite names another key."""
    if invite is not None and not invite.is_for(door):
        raise PeerError(
            f"whoever answers there is not the one this invite is of (it shows key {short(door)}); "
            "nothing was told: look at the address, or ask for another invite"
        )
    secret = "" if invite is None else invite.secret.hex()
    proof = sign(keys, PROOF_PURPOSE, (door, secret))
    return Knock(LAST_VERSION, SOFTWARE, keys.peer, secret, proof)


def _check_version(said: Knock | Ask) -> None:
    if said.protocol != LAST_VERSION:
        raise VersionMismatch(
            f"this swarm speaks protocol {LAST_VERSION} and you {said.protocol} "
            f"({said.software[:40]}); install the same version of manyhands on both sides"
        )


def contacts_in(swarm: Swarm, first: PeerId) -> tuple[Contact, ...]:
    """Members a newcomer can dial, `first` before the others.

    Of those alone whose address may be said at the door: it refuses an admission with any other.
    """
    records = sorted(swarm.peers.values(), key=lambda record: (record.peer != first, record.peer))
    return tuple(Contact(record.peer, record.address) for record in records if _may_dial(record))


def _may_dial(record: PeerRecord) -> bool:
    return bool(record.address) and is_name(record.address)


def _secret(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise PeerError("an invite's secret is written in hex digits") from error
