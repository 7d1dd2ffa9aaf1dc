"""Is what this machine says to all on an interface heard there? Tried with a question of mDNS's.

The question asks for a name that nobody has, so nobody answers; we hear our own words, as every
listener on this machine does. Whether other machines hear them only they can tell.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time

GROUP, PORT = "224.0.0.251", 5353
_PACKET_BYTES = 9000


def hears_itself(address: str, deadline_s: float = 1.0) -> str | None:
    """None when the interface with this address hears what it says; else why not.

    Waits up to `deadline_s`: call it in a thread.
    """
    question = _question(secrets.token_hex(8))
    try:
        with _listening(address) as listening, _speaking(address) as speaking:
            until_s = time.monotonic() + deadline_s
            speaking.sendto(question, (GROUP, PORT))
            while (left_s := until_s - time.monotonic()) > 0:
                listening.settimeout(left_s)
                if listening.recv(_PACKET_BYTES) == question:
                    return None
    except TimeoutError:
        pass
    except OSError as error:
        return f"it cannot be sent: {error.strerror or error}"
    return "it is sent and not heard"


def _listening(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("", PORT))
        both = socket.inet_aton(GROUP) + socket.inet_aton(address)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, both)
    except OSError:
        made.close()
        raise
    return made


def _speaking(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        own = socket.inet_aton(address)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    except OSError:
        made.close()
        raise
    return made


def _question(name: str) -> bytes:
    """A DNS message that asks for one name (RFC 1035, 4.1)."""
    labels = (name.encode("ascii"), b"manyhands-doctor", b"local")
    asked = b"".join(bytes([len(label)]) + label for label in labels) + b"\x00"
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + asked + struct.pack(">2H", 1, 1)
