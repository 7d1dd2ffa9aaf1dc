"""What may keep this machine from being in a swarm: looked at one by one, each within a deadline.

Each finding says what is so and, where it is not well, the one thing that mends it. Works without a
network. Prints nothing.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from manyhands.domain.ids import short
from manyhands.errors import ManyhandsError, VersionMismatch
from manyhands.launch.finding import check_version
from manyhands.launch.joining import MOST_CLOCK_S, SET_CLOCK, DoorAddress, read_door, told_time
from manyhands.launch.ports import API_PORT, DOOR_PORT, PEERS_PORT, is_free
from manyhands.net.discovery import SeenDoor, search
from manyhands.net.interfaces import Interface, interfaces
from manyhands.net.knocking import look
from manyhands.net.multicast import hears_itself
from manyhands.node.live import wall_clock
from manyhands.store.home import Home, Joined
from manyhands.trust.certificate import check_pem

DEADLINE_S = 3.0
SEARCH_S = 4.0
LEAST_FREE_BYTES = 10**9
OLDEST_PYTHON = (3, 11)
MOST_DOORS = 8
"""A stranger can announce any number."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is what to type or do; empty where all is well."""

    name: str
    said: str
    mend: str = ""

    @property
    def is_ok(self) -> bool:
        """True where nothing is to be done."""
        return not self.mend


async def examine(home: Home, address: str | None, runs_here: bool) -> AsyncIterator[Finding]:
    """All findings, each as soon as it is made; `address` is a door to look at as well.

    `runs_here`: a swarm of this person runs on this machine. Raises UserError for an address that
    is none.
    """
    named = None if address is None else read_door(address)
    yield _python()
    yield _packages()
    for finding in (*_home(home), *_memberships(home)):
        yield finding
    for port, what in ((API_PORT, "http"), (PEERS_PORT, "peers"), (DOOR_PORT, "door")):
        yield _port(port, what, runs_here)
    here = [one for one in interfaces() if one.kind != "loopback"]
    yield _networks(here)
    for one in here:
        yield await _multicast(one)
    seen = await search(SEARCH_S)
    yield _found(seen)
    places = _places(seen, home.memberships(), named)
    has_opened = False
    for place in places[:MOST_DOORS]:
        async for finding in _door(place, seen, is_named=place == named):
            has_opened = has_opened or finding.name == "clock"
            yield finding
    if not has_opened:
        now = datetime.fromtimestamp(wall_clock(), UTC)
        yield Finding("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC; no door opens to compare it with")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    is_old = sys.version_info[:2] < OLDEST_PYTHON
    return Finding("python", version, "install Python 3.11 or newer" if is_old else "")


def _packages() -> Finding:
    there = [name for name in ("torch", "numba") if importlib.util.find_spec(name) is not None]
    missing = "" if "torch" in there else "; quicker with `pip install 'manyhands[torch]'`"
    return Finding("packages", f"the base{''.join(f', {name}' for name in there)}{missing}")


def _home(home: Home) -> Iterable[Finding]:
    folder = home.folder
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        mend = "let yourself write there, or name another folder with MANYHANDS_HOME"
        yield Finding("home", f"{folder} cannot be written", mend)
        return
    open_to_others = [
        file
        for file in (home.folder / "keys", home.folder / "swarm")
        if os.name == "posix" and file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077
    ]
    if open_to_others:
        said = f"others of this machine may look into {open_to_others[0]}"
        yield Finding("home", said, f"chmod -R go= '{home.folder}'")
    else:
        yield Finding("home", str(home.folder))
    free = shutil.disk_usage(folder).free
    low = "free some space on that disk, or name another folder with MANYHANDS_HOME"
    yield Finding("disk", f"{free / 1e9:.1f} GB free", low if free < LEAST_FREE_BYTES else "")


def _memberships(home: Home) -> Iterable[Finding]:
    for joined in home.memberships():
        name = f"membership at {joined.door}"
        try:
            ends_s = check_pem(joined.certificate, joined.authority, wall_clock())
            yield Finding(name, f"until {datetime.fromtimestamp(ends_s, UTC):%Y-%m-%d %H:%M} UTC")
        except ManyhandsError as error:
            yield Finding(name, str(error), f"hands join {joined.door}")


def _port(port: int, what: str, runs_here: bool) -> Finding:
    if is_free("127.0.0.1", port):
        return Finding(f"port {port}", f"free, for {what}")
    if runs_here:
        return Finding(f"port {port}", f"taken, by the swarm that runs here ({what})")
    return Finding(
        f"port {port}",
        f"another program listens there, so {what} goes to another port",
        f"end that program, or: hands run --{what}-port 0",
    )


def _networks(here: list[Interface]) -> Finding:
    if not here:
        return Finding("network", "this machine is in none", "connect it to the house's network")
    said = ", ".join(f"{one.name} {one.address} ({one.kind})" for one in here)
    return Finding("network", said)


async def _multicast(one: Interface) -> Finding:
    name = f"multicast on {one.name}"
    if one.kind == "overlay":
        return Finding(name, "not carried by an overlay network: join there by address")
    if not one.hears_multicast:
        return Finding(name, "switched off there", f"ip link set {one.name} multicast on")
    why = await asyncio.to_thread(hears_itself, one.address)
    if why is None:
        return Finding(name, "sent and heard")
    return Finding(name, why, "let UDP port 5353 through this machine's firewall")


def _found(seen: tuple[SeenDoor, ...]) -> Finding:
    if seen:
        return Finding("swarm", ", ".join(f"{one.name} ({short(one.swarm)})" for one in seen))
    return Finding(
        "swarm",
        "none is heard: none runs in these networks, or multicast is blocked in between",
        "hands join HOST, as `hands run` printed it there (or an invite)",
    )


def _places(
    seen: tuple[SeenDoor, ...], memberships: tuple[Joined, ...], named: DoorAddress | None
) -> list[DoorAddress]:
    """Doors to look at, each once: the named one, those heard, those of before."""
    heard = [DoorAddress(host, one.port) for one in seen for host in one.hosts]
    before = [read_door(joined.door) for joined in memberships]
    return list(dict.fromkeys([*([named] if named else []), *heard, *before]))


async def _door(
    place: DoorAddress, seen: tuple[SeenDoor, ...], *, is_named: bool
) -> AsyncIterator[Finding]:
    name = f"door {place}"
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    try:
        about, _ = await look(place.host, place.port, deadline_s=DEADLINE_S)
    except ManyhandsError as error:
        mend = f"start the swarm there, and let TCP ports {place.port} and {PEERS_PORT} through"
        yield Finding(name, str(error), mend)
        return
    took_ms = (loop.time() - begun_s) * 1e3
    yield Finding(name, f"opens in {took_ms:.0f} ms: {about.name} ({short(about.swarm)})")
    if is_named and about.swarm not in [one.swarm for one in seen]:
        yield Finding(
            "heard",
            f"{about.name} opens its door and is not heard: multicast is blocked in between",
            f"hands join {place}",
        )
    apart_s = abs(wall_clock() - about.now_s)
    mend = SET_CLOCK if apart_s > MOST_CLOCK_S else ""
    yield Finding("clock", f"{told_time(apart_s)} from {about.name}'s", mend)
    try:
        check_version(about.name, about.protocol)
        yield Finding("version", f"protocol {about.protocol}, as {about.name}")
    except VersionMismatch as error:
        yield Finding("version", str(error), "pip install --upgrade manyhands")
