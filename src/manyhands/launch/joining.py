"""How a process becomes a member of somebody's swarm, by an invite or by what it was given before.

What it was given is kept in the home folder, so that the next time no invite is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from manyhands.domain.admission import Admission
from manyhands.domain.settings import Settings
from manyhands.errors import ManyhandsError, PeerError, PeerLied, UserError
from manyhands.launch.ports import DOOR_PORT
from manyhands.net.door import knock
from manyhands.node.founder import knock_with
from manyhands.node.live import wall_clock
from manyhands.store.home import Home, Joined, membership_of
from manyhands.trust.certificate import Membership
from manyhands.trust.invite import Invite
from manyhands.trust.signature import KeyPair

_PLACE = re.compile(
    r"(?:tcp:)?(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:\s]{1,253}))(?::([0-9]{1,5}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Entered:
    """What a member holds: what it shows, what it was told, and its own address on that way."""

    membership: Membership
    admission: Admission
    own_host: str


@dataclass(frozen=True, slots=True)
class DoorAddress:
    """Where a door is."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_door(text: str) -> DoorAddress:
    """HOST, HOST:PORT or [HOST]:PORT. Raises UserError for anything else."""
    found = _PLACE.fullmatch(text.strip())
    port = int(found[3] or DOOR_PORT) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise UserError(
            f"{text[:80]!r} is no address; write HOST or HOST:PORT, as `hands run` printed it"
        )
    return DoorAddress(found[1] or found[2], port)


async def enter(
    home: Home, keys: KeyPair, door: DoorAddress, invite: Invite | None, settings: Settings
) -> Entered:
    """Become a member, or renew what we were given at that door before.

    An invite that was used up does no harm to those who are members already. Raises UserError
    without an invite where none was used before or the membership has ended, and what the door
    refuses by.
    """
    if invite is None:
        return await _renewed(home, keys, door, settings)
    try:
        return await _knocked(home, keys, door, settings, invite, None)
    except PeerError as refusal:
        if type(refusal) is not PeerError:  # nobody there: nor a second time
            raise
        try:
            return await _renewed(home, keys, door, settings)
        except ManyhandsError:
            raise refusal from None


async def _renewed(home: Home, keys: KeyPair, door: DoorAddress, settings: Settings) -> Entered:
    """Admitted once more by what we were given before."""
    known = home.membership(keys, str(door))
    if known is None:
        raise UserError(
            f"to join at {door} for the first time an invite is needed: `hands run` and `hands "
            "serve` print one; give it with --invite"
        )
    shown = membership_of(keys, known)
    if shown.expires_s <= wall_clock():
        raise UserError(
            f"the membership that was given at {door} has ended, as it does when a "
            "device is away for long; ask there for an invite, and give it with --invite"
        )
    return await _knocked(home, keys, door, settings, None, shown)


async def _knocked(
    home: Home,
    keys: KeyPair,
    door: DoorAddress,
    settings: Settings,
    invite: Invite | None,
    shown: Membership | None,
) -> Entered:
    admission, own_host = await knock(
        door.host,
        door.port,
        lambda answered: knock_with(keys, answered, invite),
        deadline_s=settings.dial_deadline_s,
        membership=shown,
    )
    joined = Joined(admission.certificate, admission.authority, str(door), admission.contacts)
    membership = _checked(keys, joined)
    if shown is not None and shown.swarm != membership.swarm:
        raise PeerLied(f"another swarm than before answers at {door}; ask for a new invite")
    home.remember(keys, joined)
    return Entered(membership, admission, own_host)


def _checked(keys: KeyPair, joined: Joined) -> Membership:
    try:
        return membership_of(keys, joined)
    except UserError as error:
        raise PeerLied(f"the door at {joined.door} gave no proper membership: {error}") from error
