"""Which addresses and ports of this machine to listen at.

Knows nothing of what listens there.
"""

from __future__ import annotations

import contextlib
import socket

from manyhands.errors import UserError

API_PORT, PEERS_PORT, DOOR_PORT = 7700, 7701, 7702


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
