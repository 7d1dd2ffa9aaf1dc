"""The addresses that this machine has in networks, and what kind of network each is.

Asks the system, sends nothing. IPv4: what peers of one house find each other by.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Literal

import psutil

Kind = Literal["lan", "overlay", "virtual", "loopback"]
"""overlay: a private network across others, as Tailscale's; virtual: of this machine's containers
and virtual machines, where nobody else is."""

_OVERLAYS = re.compile(r"(?i)tailscale|^ts\d|wireguard|^wg|zerotier|^zt|nebula|netbird|^utun")
_VIRTUAL = re.compile(r"(?i)^docker|^br-|^veth|^virbr|^vbox|^vmnet|^lxc|^cni|^podman|vethernet")
_CARRIER_GRADE = ipaddress.ip_network("100.64.0.0/10")
"""Tailscale gives its members addresses of this block (RFC 6598)."""

_SOMEWHERE = ("192.0.2.1", 9)
"""An address of nobody's (RFC 5737): which way to it is asked, nothing is sent."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One address of this machine; an interface with two of them is two of these."""

    name: str
    address: str
    kind: Kind
    hears_multicast: bool
    """By what the system says of it."""


def interfaces() -> tuple[Interface, ...]:
    """Those that are up: where the default route leaves first, then LAN, overlay, the rest."""
    states = psutil.net_if_stats()
    found = [
        Interface(name, place.address, kind_of(name, place.address), _hears(states.get(name)))
        for name, places in psutil.net_if_addrs().items()
        for place in places
        if place.family == socket.AF_INET and (name not in states or states[name].isup)
    ]
    usual, order = _usual_address(), ("lan", "overlay", "virtual", "loopback")
    return tuple(sorted(found, key=lambda one: (order.index(one.kind), one.address != usual)))


def reachable_addresses() -> tuple[str, ...]:
    """By which others may reach this machine: networks and overlays, the usual one first."""
    return tuple(one.address for one in interfaces() if one.kind in ("lan", "overlay"))


def kind_of(name: str, address: str) -> Kind:
    """By an interface's name and address."""
    place = ipaddress.ip_address(address)
    if place.is_loopback:
        return "loopback"
    if _OVERLAYS.search(name) or place in _CARRIER_GRADE:
        return "overlay"
    return "virtual" if _VIRTUAL.search(name) else "lan"


def _hears(state: object) -> bool:
    flags = str(getattr(state, "flags", ""))
    return not flags or "multicast" in flags.split(",")  # Windows says nothing of it


def _usual_address() -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(_SOMEWHERE)
        return str(asking.getsockname()[0])
    return ""
