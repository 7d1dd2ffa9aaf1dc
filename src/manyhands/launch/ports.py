"""Which addresses and ports of this machine to listen at.

Knows nothing of what listens there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from manyhands.errors import UserError

API_PORT, PEERS_PORT, DOOR_PORT = 7700, 7701, 7702

_SOMEWHERE = ("192.0.2.1", 9)
"""An address of nobody's (RFC 5737): which way to it is asked, nothing is sent."""


def port_for(host: str, wanted: int | None, usual: int) -> int:
    """`wanted` if one is named, else the usual one while it is free, else 0: any."""
    if wanted is not None:
        if not 0 <= wanted < 1 << 16:
            raise UserError(f"port is {wanted}; it must be in [1, 65535], or 0 for any free one")
        return wanted
    return usual if is_free(host, usual) else 0


def is_free(host: str, port: int) -> bool:
    """True when nobody listens there now."""
    with contextlib.suppress(OSError, UnicodeError):  # names may be odd
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, place = found[0]
        with socket.create_server(place[:2], family=family):
            return True
    return False


def lan_host() -> str:
    """The address by which others of the same network reach us.

    Raises UserError when there is none.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(_SOMEWHERE)
        host: str = asking.getsockname()[0]
        if not ipaddress.ip_address(host).is_loopback:
            return host
    raise UserError("this machine has no address in a network; connect it, or name one with --host")
