"""What a host's name or address says by itself: only this machine, any address, no port.

Asks nobody: names are not looked up.
"""

from __future__ import annotations

import ipaddress


def host_name(text: str) -> str:
    """The name or address in `name:port`, `[address]:port` or a bare IPv6 address."""
    name = text.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    return name.removesuffix(".")


def is_address(host: str) -> bool:
    """True for an address; a name can be rebound to another one."""
    return _address(host) is not None


def is_loopback(host: str) -> bool:
    """True when only this machine reaches what is bound to `host`."""
    address = _address(host)
    return host_name(host) == "localhost" or (address is not None and address.is_loopback)


def is_every_address(host: str) -> bool:
    """True when what is bound to `host` is reached by every address of this machine."""
    address = _address(host)
    return not host or (address is not None and address.is_unspecified)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host_name(host))
    except ValueError:
        return None
