"""How a process becomes a member of somebody's swarm: invited, approved, or known from before.

What it was given is kept in the home folder, so that the next time nobody has to be asked.
"""

from __future__ import annotations

import re
import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from manyhands.domain.admission import Admission
from manyhands.domain.settings import Settings
from manyhands.errors import ManyhandsError, PeerError, PeerLied, UserError
from manyhands.launch.ports import DOOR_PORT
from manyhands.net.knocking import ask, knock
from manyhands.node.founder import knock_with
from manyhands.node.live import wall_clock
from manyhands.node.newcomer import Newcomer
from manyhands.store.home import Home, Joined, membership_of
from manyhands.trust.certificate import Membership
from manyhands.trust.invite import Invite
from manyhands.trust.short_code import NONCE_BYTES
from manyhands.trust.signature import KeyPair

_PLACE = re.compile(
    r"(?:tcp:)?(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:\s]{1,253}))(?::([0-9]{1,5}))?", re.ASCII
)

MOST_CLOCK_S = 20.0
"""Records of peers live 30 s, and must not come from the future by more."""

SET_CLOCK = {
    "linux": "timedatectl set-ntp true",
    "darwin": "sudo sntp -sS time.apple.com",
    "win32": "w32tm /resync",
}.get(sys.platform, "by your system's settings")


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
    home: Home,
    keys: KeyPair,
    door: DoorAddress,
    invite: Invite | None,
    settings: Settings,
    show: Callable[[str], None] | None = None,
    swarm: str | None = None,
    address: str = "",
) -> Entered:
    """Become a member, or renew what we were given before.

    An invite that was used up does no harm to those who are members already. Who has neither
    invite nor membership asks to be approved, if there is a `show` for the code. What
    `swarm` gave us elsewhere counts too. `address` is where we work already, when we renew.
    Raises UserError where nothing of these serves, and what the door refuses by.
    """
    if invite is None:
        shown = _known(home, keys, door, swarm)
        if shown is not None and (shown.expires_s > wall_clock() or show is None):
            return await _renewed(home, keys, door, settings, shown, address)
        if show is None:
            raise UserError(
                f"to join at {door} for the first time an invite is needed: `hands run` and "
                "`hands serve` print one; give it with --invite"
            )
        return await _approved(home, keys, door, settings, show)
    try:
        return await _knocked(home, keys, door, settings, invite, None)
    except PeerError as refusal:
        if type(refusal) is not PeerError:  # nobody there: nor a second time
            raise
        shown = _known(home, keys, door, swarm)
        if shown is None:
            raise
        try:
            return await _renewed(home, keys, door, settings, shown)
        except ManyhandsError:
            raise refusal from None


def _known(home: Home, keys: KeyPair, door: DoorAddress, swarm: str | None) -> Membership | None:
    """What was given to us before, at this door or by this swarm."""
    known = home.membership_in(keys, swarm) if swarm else home.membership(keys, str(door))
    return None if known is None else membership_of(keys, known)


async def _renewed(
    home: Home,
    keys: KeyPair,
    door: DoorAddress,
    settings: Settings,
    shown: Membership,
    address: str = "",
) -> Entered:
    """Admitted once more by what we were given before."""
    if shown.expires_s <= wall_clock():
        raise UserError(
            f"the membership that was given at {door} has ended, as it does when a "
            "device is away for long; ask there for an invite, and give it with --invite"
        )
    return await _knocked(home, keys, door, settings, None, shown, address)


async def _knocked(
    home: Home,
    keys: KeyPair,
    door: DoorAddress,
    settings: Settings,
    invite: Invite | None,
    shown: Membership | None,
    address: str = "",
) -> Entered:
    admission, own_host = await knock(
        door.host,
        door.port,
        lambda answered: knock_with(keys, answered, invite, address),
        deadline_s=settings.dial_deadline_s,
        membership=shown,
    )
    return _entered(home, keys, door, admission, own_host, shown)


async def _approved(
    home: Home, keys: KeyPair, door: DoorAddress, settings: Settings, show: Callable[[str], None]
) -> Entered:
    asking = Newcomer(keys, socket.gethostname(), secrets.token_bytes(NONCE_BYTES), show)
    admission, own_host = await ask(
        door.host,
        door.port,
        asking,
        deadline_s=settings.dial_deadline_s,
        wait_s=settings.approval_wait_s,
    )
    return _entered(home, keys, door, admission, own_host, None)


def _entered(
    home: Home,
    keys: KeyPair,
    door: DoorAddress,
    admission: Admission,
    own_host: str,
    shown: Membership | None,
) -> Entered:
    """What was given to us, once it is looked at; kept for the next time."""
    joined = Joined(admission.certificate, admission.authority, str(door), admission.contacts)
    membership = _checked(keys, joined)
    if shown is not None and shown.swarm != membership.swarm:
        raise PeerLied(f"another swarm than before answers at {door}; ask for a new invite")
    check_clocks(door, admission.now_s, wall_clock())
    home.remember(keys, joined)
    return Entered(membership, admission, own_host)


def check_clocks(door: DoorAddress, theirs_s: float, ours_s: float) -> None:
    """Raise UserError for clocks so far apart that nobody would believe us, or we anybody."""
    ahead_s = ours_s - theirs_s
    if abs(ahead_s) > MOST_CLOCK_S:
        raise UserError(
            f"this machine's clock is {told_time(abs(ahead_s))} "
            f"{'ahead of' if ahead_s > 0 else 'behind'} the one at {door}, and peers tell by it "
            f"what is still true; set both clocks ({SET_CLOCK}) and join again"
        )


def told_time(seconds: float) -> str:
    """As 45 s, 12 min or 1 h 5 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _checked(keys: KeyPair, joined: Joined) -> Membership:
    try:
        return membership_of(keys, joined)
    except UserError as error:
        raise PeerLied(f"the door at {joined.door} gave no proper membership: {error}") from error
