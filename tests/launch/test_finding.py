"""Which door is meant, and by which address it opens."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace

import pytest

from manyhands.domain.settings import Settings
from manyhands.errors import PeerError, PeerLost, VersionMismatch
from manyhands.launch.finding import Candidates, reach
from manyhands.launch.joining import DoorAddress
from manyhands.net.discovery import SeenDoor
from manyhands.net.door import Door
from manyhands.net.tls import Contexts
from manyhands.node.founder import Founder
from manyhands.node.live import wall_clock
from manyhands.trust.invite import fingerprint
from tls_cases import OTHER_SWARM, SWARM
from transport_conformance import ANNA, KEYS

HOST = "127.0.0.1"
DEADLINE_S = 20.0
SEEN = SeenDoor(SWARM.swarm, fingerprint(ANNA).hex(), "anna", 1, (HOST,), 1)


@contextlib.asynccontextmanager
async def opened(authority=SWARM):
    founder = Founder(authority, KEYS[0], Settings(), wall_clock, lambda: 7)
    door = Door(
        Contexts(founder.membership()), HOST, 0, founder.decide, DEADLINE_S, reception=founder
    )
    try:
        yield replace(SEEN, port=await door.open())
    finally:
        await door.close()


def nobodys_port() -> int:
    with socket.create_server((HOST, 0)) as listening:
        return listening.getsockname()[1]


async def test_a_door_is_reached_by_the_address_that_opens():
    async with opened() as seen:
        both = replace(seen, hosts=("127.0.0.2", HOST))  # nobody listens at the first
        assert await reach(both, DEADLINE_S) == DoorAddress(HOST, seen.port)


async def test_a_door_that_opens_nowhere_is_said_with_what_to_do():
    with pytest.raises(PeerLost, match=r"anna is announced, but .* a firewall there"):
        await reach(replace(SEEN, port=nobodys_port(), hosts=(HOST, "127.0.0.2")), DEADLINE_S)


async def test_another_version_is_said_before_anybody_is_dialled():
    with pytest.raises(VersionMismatch, match="anna speaks protocol 2 and this machine 1"):
        await reach(replace(SEEN, protocol=2, port=nobodys_port()), DEADLINE_S)


async def test_another_swarm_than_was_announced_is_refused():
    async with opened(OTHER_SWARM) as seen:
        with pytest.raises(PeerError, match="another swarm answers"):
            await reach(seen, DEADLINE_S)


def test_the_only_one_is_meant_or_the_only_one_that_let_us_in_before():
    ben = replace(SEEN, name="ben")
    assert Candidates((SEEN,), ()).only == SEEN
    assert Candidates((SEEN, ben), (ben,)).only == ben
    assert Candidates((SEEN, ben), ()).only is None
    assert Candidates((SEEN, ben), (SEEN, ben)).only is None
