"""Doors as they are announced: what is written is read, and what strangers say is not believed.

How they are heard over real networks is tried in tests/swarm/test_house.py.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf.asyncio import AsyncServiceInfo

from manyhands.net import discovery
from manyhands.net.discovery import SERVICE, SeenDoor, announce, read, search, write

SEEN = SeenDoor("ab" * 32, "cd" * 16, "laptop-anna", 1, ("10.0.0.5", "192.168.1.5"), 7702)


def test_what_is_announced_is_read_as_it_was():
    assert read(write(SEEN)) == SEEN


def announced(port=7702, hosts=("10.0.0.5",), **said):
    said = {"swarm": "ab" * 32, "door": "cd" * 16, "name": "x", "protocol": "1", **said}
    return AsyncServiceInfo(
        SERVICE, f"x.{SERVICE}", port=port, parsed_addresses=list(hosts), properties=said
    )


@pytest.mark.parametrize(
    "told",
    [
        {"port": 0},
        {"hosts": ()},
        {"hosts": ("::1",)},
        {"swarm": "AB" * 32},
        {"swarm": ""},
        {"door": "cd" * 15},
        {"name": "\x1b[2J"},
        {"name": "x" * 201},
        {"protocol": "one"},
        {"protocol": None},
        {"protocol": "-1"},
    ],
)
def test_what_is_no_door_of_ours_is_passed_over(told):
    assert read(announced(**told)) is None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_is_said_is_read_or_passed_over(key, value):
    read(announced(swarm=value, name=key))


async def test_in_no_network_nothing_is_found_and_nothing_breaks(monkeypatch):
    monkeypatch.setattr(discovery, "interfaces", tuple)
    assert await search(0.1) == ()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await announce(lambda: SEEN)
