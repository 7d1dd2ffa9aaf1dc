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
        self.at_work: Callable[[PeerId], str | None] = lambda _: None
        """Where a member's key is in use now, if it is."""
        self.contacts: Callable[[], Iterable[Contact]] = tuple
        self._authority, self._keys, self.settings = authority, keys, settings
        self._now, self._serial = now, serial
        self.approvals = Approvals(clock, settings.approval_wait_s)
        self._invites = OpenInvites()
        self._somebody_came = asyncio.Event()

    def membership(self) -> Membership:
        """The founder's own, from now on."""
        return Membership(
            self._keys, self._certificate(self._keys.peer), self._authority.certificate_pem
        )

    def invite(self, life_s: float | None = None, guest_s: float | None = None) -> Invite:
        """A new invite: for one peer, for `life_s` or else `invite_life_s`.

        With `guest_s` it lets in a guest: for so long, and not renewed.
        """
        made = make_invite(self._keys.peer, secrets.token_bytes(SECRET_BYTES))
        until_s = self._now() + (life_s or self.settings.invite_life_s)
        self._invites.add(made, until_s, guest_s)
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
        guest_until_s = None
        self._check_alone(knock.peer, knock.address)
        if knock.secret:
            guest_until_s = self._invites.use(_secret(knock.secret), knock.peer, self._now())
            self._somebody_came.set()
            self._somebody_came = asyncio.Event()
        elif member != knock.peer:
            raise PeerError("an invite is needed here; ask whoever runs the swarm for one")
        return self._admission(knock.peer, guest_until_s)

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
        self._check_alone(ask.peer, "")
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
        return self._admission(ask.peer, None)

    def _check_alone(self, peer: PeerId, address: str) -> None:
        """Raise PeerError for a key that works elsewhere than at `address` (empty: nowhere yet)."""
        elsewhere = self.at_work(peer)
        if elsewhere not in (None, address):
            raise PeerError(
                f"the key of this device ({short(peer)}) is at work already at {elsewhere}: was "
                "the home folder copied from another machine? Each needs a key of its own: delete "
                "`keys` and `joined` in the copy and join again (if that one has just lost its "
                "power, wait ten seconds)"
            )

    def _admission(self, peer: PeerId, guest_until_s: float | None) -> Admission:
        return Admission(
            authority=self._authority.certificate_pem.decode("ascii"),
            certificate=self._certificate(peer, guest_until_s).decode("ascii"),
            contacts=tuple(self.contacts())[:MOST_CONTACTS],
            models=self.models,
            now_s=self._now(),
        )

    def _certificate(self, peer: PeerId, guest_until_s: float | None = None) -> bytes:
        now_s, life_s = self._now(), self.settings.certificate_life_s
        is_guest = guest_until_s is not None
        if guest_until_s is not None:
            life_s = min(life_s, guest_until_s - now_s)
        return admit(self._authority, peer, now_s, life_s, self._serial(), is_guest=is_guest)


def knock_with(keys: KeyPair, door: PeerId, invite: Invite | None, address: str = "") -> Knock:
    """What to say at the door of `door`; `address` is where we work already, if we do.

    Raises PeerError when the invite names another key.
    """
    if invite is not None and not invite.is_for(door):
        raise PeerError(
            f"whoever answers there is not the one this invite is of (it shows key {short(door)}); "
            "nothing was told: look at the address, or ask for another invite"
        )
    secret = "" if invite is None else invite.secret.hex()
    proof = sign(keys, PROOF_PURPOSE, (door, secret))
    return Knock(LAST_VERSION, SOFTWARE, keys.peer, secret, proof, address)


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
