"""An invite with the way to its door in one text, for a chat message or a code to be photographed.

`manyhands://HOST:PORT+HOST:PORT/INVITE`: of signs that make a small QR code, where capitals and
small letters are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manyhands.errors import UserError
from manyhands.launch.joining import DoorAddress, read_door
from manyhands.trust.invite import Invite, read_invite

SCHEME = "manyhands://"
MOST_DOORS = 6
"""Addresses of one door: one in each network."""


@dataclass(frozen=True, slots=True)
class Link:
    """`doors` are addresses of one and the same door."""

    doors: tuple[DoorAddress, ...]
    invite: Invite


def write_link(doors: Sequence[DoorAddress], invite: Invite) -> str:
    """What `read_link` reads."""
    return f"{SCHEME}{'+'.join(map(str, doors[:MOST_DOORS]))}/{invite.text}"


def is_link(text: str) -> bool:
    """True for what somebody means as a link."""
    return "".join(text.split()).lower().startswith(SCHEME)


def read_link(text: str) -> Link:
    """The link that a person pasted. Raises UserError for anything else."""
    plain = "".join(text.split()).lower()
    places, slash, invite = plain.removeprefix(SCHEME).rstrip("/").rpartition("/")
    doors = places.split("+")
    if not plain.startswith(SCHEME) or not slash or len(doors) > MOST_DOORS:
        raise UserError(
            f"{text[:80]!r} is no link of an invite; copy it once more, whole: "
            f"{SCHEME}HOST:PORT/INVITE"
        )
    return Link(tuple(map(read_door, doors)), read_invite(invite))
