"""Hosts of one house as network namespaces (Linux, root): each with its own addresses and routes.

A network is a bridge, a host on it an end of a veth pair. Everything is named after this process
and removed in the end.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator

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
def joined_by(members: list[Host], prefix: str = "10.77.0") -> Iterator[Network]:
    """A network with these hosts, at `prefix`.1, .2 and so on."""
    number = next(_NUMBERS)
    bridge = f"mhb{os.getpid() % 100000}x{number}"
    made = Network(bridge)
    ip("link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
    try:
        ip("link", "set", bridge, "up")
        for index, host in enumerate(members, 1):
            inside, end = f"eth{len(host.addresses)}", f"mhv{os.getpid() % 10000}x{number}x{index}"
            peer = f"mhp{os.getpid() % 10000}x{number}x{index}"
            ip("link", "add", end, "type", "veth", "peer", "name", peer)
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
def network(count: int) -> Iterator[tuple[list[Host], Network]]:
    """So many hosts in one network."""
    with hosts(count) as members, joined_by(members) as made:
        yield members, made
