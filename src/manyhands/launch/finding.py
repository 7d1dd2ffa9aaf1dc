"""How a device that was told no address finds the door of its swarm in the networks it is in.

Asks nobody but the networks: which of several doors is meant is decided by who calls.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from manyhands.errors import PeerError, PeerLost, UserError, VersionMismatch
from manyhands.launch.joining import DoorAddress
from manyhands.net.discovery import SeenDoor, search
from manyhands.net.knocking import look
from manyhands.net.racing import quickest
from manyhands.node.peers import LAST_VERSION
from manyhands.store.home import Home
from manyhands.trust.invite import Invite
from manyhands.trust.signature import KeyPair

SEARCH_S = 5.0

NOTHING_FOUND = (
    "no swarm was found in the networks of this machine: nobody runs `hands run` there, the other "
    "device is in another network (a guest Wi-Fi, a VPN), or what is said to all (multicast) is "
    "blocked in between; look at the line that `hands run` printed and type its address "
    "(`hands join HOST`), or use an invite; `hands doctor` says what is wrong here"
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Doors that may be meant, and those of them whose swarm let us in before."""

    doors: tuple[SeenDoor, ...]
    known: tuple[SeenDoor, ...]

    @property
    def only(self) -> SeenDoor | None:
        """The door that is meant beyond doubt: the only one, or the only one of ours."""
        for row in (self.doors, self.known):
            if len(row) == 1:
                return row[0]
        return None


async def find(
    home: Home, keys: KeyPair, invite: Invite | None, seconds: float = SEARCH_S
) -> Candidates:
    """The doors of this machine's networks; with an invite its own only.

    Raises UserError when there is none.
    """
    wanted = None if invite is None else invite.fingerprint.hex()
    seen = await search(seconds, lambda door: door.door == wanted)
    doors = tuple(door for door in seen if wanted in (None, door.door))
    if seen and not doors:
        names = ", ".join(door.name for door in seen)
        raise UserError(
            f"of the swarms in this network ({names}) none is the one of this invite; name its "
            "address as well: `hands join HOST --invite …`"
        )
    if not doors:
        raise UserError(NOTHING_FOUND)
    known = tuple(door for door in doors if home.membership_in(keys, door.swarm) is not None)
    return Candidates(doors, known)


async def reach(seen: SeenDoor, deadline_s: float) -> DoorAddress:
    """By which of its addresses a door opens.

    Raises PeerLost when by none, VersionMismatch, and PeerError when another swarm answers.
    """
    check_version(seen.name, seen.protocol)

    async def way(host: str) -> DoorAddress:
        about, _ = await look(host, seen.port, deadline_s=deadline_s)
        check_version(about.name, about.protocol)
        if about.swarm != seen.swarm:
            raise PeerError(
                f"another swarm answers at {host} than {seen.name} announced; join by an invite"
            )
        return DoorAddress(host, seen.port)

    ways = [functools.partial(way, host) for host in seen.hosts]
    try:
        return await quickest(ways, (PeerError, VersionMismatch))
    except PeerLost as error:
        raise PeerLost(
            f"{seen.name} is announced, but its door opens at none of its addresses "
            f"({', '.join(seen.hosts)}; port {seen.port}): {error}; a firewall there may let in "
            "only what it knows: allow that port"
        ) from error


async def reach_invited(
    doors: Sequence[DoorAddress], invite: Invite, deadline_s: float
) -> DoorAddress:
    """By which of its addresses the door of an invite opens. Raises PeerLost, PeerError."""

    async def way(door: DoorAddress) -> DoorAddress:
        _, answered = await look(door.host, door.port, deadline_s=deadline_s)
        if not invite.is_for(answered):
            raise PeerError(f"whoever answers at {door} is not the one this invite is of")
        return door

    if len(doors) == 1:  # whoever answers there is seen when it is knocked at
        return doors[0]
    return await quickest([functools.partial(way, door) for door in doors], (PeerError,))


def check_version(name: str, protocol: int) -> None:
    """Raise VersionMismatch unless `name` speaks as we do."""
    if protocol != LAST_VERSION:
        raise VersionMismatch(
            f"{name} speaks protocol {protocol} and this machine {LAST_VERSION}; install the same "
            "version of manyhands on both sides"
        )
