"""What `hands doctor` finds: each thing that is not well is named with what mends it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from dataclasses import replace

import pytest

from manyhands.domain.settings import Settings
from manyhands.errors import UserError
from manyhands.launch import checkup
from manyhands.launch.checkup import examine
from manyhands.net.door import Door
from manyhands.net.tls import Contexts
from manyhands.node.founder import Founder
from manyhands.node.live import wall_clock
from manyhands.store.home import Home, Joined
from tls_cases import HOUR_S, SWARM, member, outdated
from transport_conformance import KEYS

ANNAS, BENS, _ = KEYS
HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def _no_search(monkeypatch):
    """The networks of whoever runs the tests are nobody's business here."""

    async def nothing(_):
        return ()

    monkeypatch.setattr(checkup, "search", nothing)


@contextlib.asynccontextmanager
async def door(now=wall_clock, **changes):
    founder = Founder(SWARM, ANNAS, Settings(), wall_clock, lambda: 7)
    founder.name = "anna"
    contexts = Contexts(founder.membership())
    founder._now = now

    class Reception:
        def about(self):
            return replace(founder.about(), **changes)

    opened = Door(contexts, HOST, 0, founder.decide, 20.0, reception=Reception())
    try:
        yield f"{HOST}:{await opened.open()}"
    finally:
        await opened.close()


async def found(folder, address=None, *, runs_here=False) -> dict[str, checkup.Finding]:
    with Home(folder) as home:
        return {one.name: one async for one in examine(home, address, runs_here)}


async def test_a_machine_by_itself_is_told_that_no_swarm_is_heard(tmp_path):
    told = await found(tmp_path)
    assert told["python"].is_ok
    assert told["home"].is_ok
    assert not told["swarm"].is_ok
    assert "hands join HOST" in told["swarm"].mend
    assert "no door opens" in told["clock"].said


async def test_a_door_that_opens_is_compared_with(tmp_path):
    async with door() as place:
        told = await found(tmp_path, place)
    assert "opens in" in told[f"door {place}"].said
    assert told["clock"].is_ok
    assert told["version"].is_ok
    assert "multicast is blocked" in told["heard"].said  # it opens, but nobody heard of it
    assert told["heard"].mend == f"hands join {place}"


async def test_a_clock_that_is_an_hour_off_is_said_with_the_command_that_sets_it(tmp_path):
    async with door(lambda: wall_clock() - HOUR_S) as place:
        told = await found(tmp_path, place)
    assert "1 h 0 min from anna's" in told["clock"].said
    assert told["clock"].mend


async def test_another_version_is_said(tmp_path):
    async with door(protocol=2) as place:
        told = await found(tmp_path, place)
    assert "anna speaks protocol 2" in told["version"].said
    assert "pip install" in told["version"].mend


async def test_a_door_that_does_not_open_is_said_with_the_ports_to_let_through(tmp_path):
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
    told = await found(tmp_path, f"{HOST}:{port}")
    assert "nobody opened" in told[f"door {HOST}:{port}"].said
    assert f"{port} and 7701" in told[f"door {HOST}:{port}"].mend


async def test_what_is_no_address_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="is no address"):
        await found(tmp_path, "no address")


async def test_memberships_are_looked_at_without_anybodys_help(tmp_path):
    with Home(tmp_path) as home:
        for name, held in (("good:1", member(BENS)), ("old:1", outdated(BENS))):
            told = held.certificate_pem.decode(), held.authority_pem.decode()
            home.remember(BENS, Joined(*told, name, ()))
    told = await found(tmp_path)
    assert told["membership at good:1"].is_ok
    assert "ended" in told["membership at old:1"].said
    assert told["membership at old:1"].mend == "hands join old:1"


@pytest.mark.skipif(sys.platform == "win32", reason="rights are others there")
async def test_keys_that_others_may_read_are_said(tmp_path):
    with Home(tmp_path) as home:
        home.keys()
    os.chmod(tmp_path / "keys", 0o755)
    told = await found(tmp_path)
    assert "others of this machine" in told["home"].said
    assert told["home"].mend == f"chmod -R go= '{tmp_path}'"


async def test_a_full_disk_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup, "LEAST_FREE_BYTES", 1 << 60)
    assert "free some space" in (await found(tmp_path))["disk"].mend


async def test_a_taken_port_is_ours_or_somebody_elses(tmp_path, monkeypatch):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(checkup, "DOOR_PORT", port)
        assert "hands run --door-port 0" in (await found(tmp_path))[f"port {port}"].mend
        assert (await found(tmp_path, runs_here=True))[f"port {port}"].is_ok
