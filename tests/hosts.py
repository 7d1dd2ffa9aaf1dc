"""Hosts of one house as network namespaces (Linux, root): each with its own addresses and routes.

A network is a bridge, a host on it an end of a veth pair, or of a shaped wire. Everything is named
after this process and removed in the end.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from manyhands.sim.shaping import Shape

WIRES = Path(__file__).parent / "wires.py"

_NUMBERS = itertools.count()


def ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr}")
    return done.stdout


@functools.cache
def can_be_made() -> bool:
    """True where this process may make namespaces and bridges."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with network(1):
            return True
    except OSError:
        return False


class Host:
    """One namespace. `words` in front of a command run it there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.addresses: list[str] = []
        self.words = ("ip", "netns", "exec", name)

    def ip(self, *words: str) -> str:
        return ip("-n", self.name, *words)


class Network:
    """A bridge; `ends` are its ports, one a host in their order."""

    def __init__(self, name: str) -> None:
        self.name, self.ends = name, []

    def drop_multicast(self) -> None:
        """As an access point that isolates its clients from what is said to all."""
        for end in self.ends:
            ip("link", "set", "dev", end, "type", "bridge_slave", "mcast_flood", "off")


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many of them, without any network yet."""
    made = [Host(f"mh{os.getpid()}-{next(_NUMBERS)}") for _ in range(count)]
    try:
        for host in made:
            ip("netns", "add", host.name)
            host.ip("link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            ip("netns", "del", host.name, check=False)


@contextlib.contextmanager
def wired(pairs: list[tuple[str, str]], shape: Shape | None) -> Iterator[None]:
    """A wire between each two cards of these names, made here; plain veth without a shape."""
    if shape is None:
        for peer, end in pairs:
            ip("link", "add", end, "type", "veth", "peer", "name", peer)
        yield
        return
    words = [sys.executable, str(WIRES), str(shape.latency_s), str(shape.rate_bytes_per_s)]
    with subprocess.Popen(
        [*words, *map(":".join, pairs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as carrying:
        if carrying.stdout.readline() != "made\n":
            raise OSError("no wires could be made here")
        yield
        carrying.stdin.close()


@contextlib.contextmanager
def joined_by(
    members: list[Host], prefix: str = "10.77.0", shape: Shape | None = None
) -> Iterator[Network]:
    """A network with these hosts, at `prefix`.1, .2 and so on.

    `shape` is that of the way from one host to another; half of its delay is in each one's wire.
    """
    number = next(_NUMBERS)
    bridge = f"mhb{os.getpid() % 100000}x{number}"
    made = Network(bridge)
    mine = os.getpid() % 10000
    pairs = [(f"mhp{mine}x{number}x{n}", f"mhv{mine}x{number}x{n}") for n in range(len(members))]
    wire = shape and replace(shape, latency_s=shape.latency_s / 2)
    ip("link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
    try:
        ip("link", "set", bridge, "up")
        with wired(pairs, wire):
            for index, (host, (peer, end)) in enumerate(zip(members, pairs, strict=True), 1):
                inside = f"eth{len(host.addresses)}"
                ip("link", "set", end, "master", bridge, "up")
                ip("link", "set", peer, "netns", host.name)
                host.ip("link", "set", peer, "name", inside)
                host.ip("addr", "add", f"{prefix}.{index}/24", "dev", inside)
                host.ip("link", "set", inside, "up")
                if not host.addresses:
                    host.ip("route", "add", "default", "via", f"{prefix}.254")
                host.addresses.append(f"{prefix}.{index}")
                made.ends.append(end)
            yield made
    finally:
        ip("link", "del", bridge, check=False)


@contextlib.contextmanager
def network(count: int, shape: Shape | None = None) -> Iterator[tuple[list[Host], Network]]:
    """So many hosts in one network; see `joined_by`."""
    with hosts(count) as members, joined_by(members, shape=shape) as made:
        yield members, made
