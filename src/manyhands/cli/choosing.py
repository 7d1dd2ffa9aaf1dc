"""Which door `hands join` goes to: the one that was named, or one that is found."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.cli.console import Console
from manyhands.cli.typed import is_typed_at, typed_line
from manyhands.domain.ids import short
from manyhands.domain.settings import Settings
from manyhands.errors import UserError
from manyhands.launch.finding import Candidates, find, reach, reach_invited
from manyhands.launch.joining import DoorAddress
from manyhands.net.discovery import SeenDoor
from manyhands.store.home import Home
from manyhands.trust.invite import Invite
from manyhands.trust.signature import KeyPair


@dataclass(frozen=True, slots=True)
class ChosenDoor:
    """Where it is; `swarm` is whose it said it is, None where an address was typed."""

    address: DoorAddress
    swarm: str | None


async def choose_door(
    console: Console,
    settings: Settings,
    home: Home,
    keys: KeyPair,
    doors: tuple[DoorAddress, ...],
    invite: Invite | None,
) -> ChosenDoor:
    """The door to go to: at one of `doors`, else one that is found.

    Raises UserError, also where several are found and nobody can be asked; and what keeps a door
    from being reached.
    """
    if invite is not None and doors:
        return ChosenDoor(await reach_invited(doors, invite, settings.dial_deadline_s), None)
    if doors:
        return ChosenDoor(doors[0], None)
    console.say("looking for a swarm in this network …", "dim")
    candidates = await find(home, keys, invite)
    seen = candidates.only or await _asked(console, candidates)
    door = await reach(seen, settings.dial_deadline_s)
    console.say(f"found the swarm of {seen.name} (id {short(seen.swarm)}) at {door}")
    console.event("found", name=seen.name, swarm=seen.swarm, door=str(door))
    return ChosenDoor(door, seen.swarm)


async def _asked(console: Console, candidates: Candidates) -> SeenDoor:
    doors = candidates.doors
    for number, seen in enumerate(doors, 1):
        console.say(f"  {number}  {seen.name}  id {short(seen.swarm)}  {_first(seen)}")
    if not is_typed_at(console):
        ways = ", ".join(f"{seen.name} at {_first(seen)}" for seen in doors)
        raise UserError(
            f"{len(doors)} swarms are in this network ({ways}); say which: `hands join HOST`, or "
            "use an invite"
        )
    while True:
        console.say(f"which one? [1-{len(doors)}]")
        typed = await typed_line()
        if typed.isascii() and typed.isdigit() and 0 < int(typed) <= len(doors):
            return doors[int(typed) - 1]


def _first(seen: SeenDoor) -> DoorAddress:
    return DoorAddress(seen.hosts[0], seen.port)
