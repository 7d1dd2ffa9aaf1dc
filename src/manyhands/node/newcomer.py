"""The one that asks to be let in: what it says at a door, and the code that it shows then.

Knows no sockets and no screens: `net/knocking` carries the words, `show` is an argument.
"""

from __future__ import annotations

from collections.abc import Callable

from manyhands.domain.admission import Ask, Challenge, Reveal
from manyhands.domain.ids import PeerId
from manyhands.errors import PeerLied
from manyhands.node.peers import LAST_VERSION, SOFTWARE
from manyhands.trust.short_code import commitment, short_code
from manyhands.trust.signature import KeyPair, sign

ASK_PURPOSE = "manyhands ask"
MOST_NAME = 40


class Newcomer:
    """`nonce` is random and used for one asking; `show` is called with the code."""

    def __init__(self, keys: KeyPair, name: str, nonce: bytes, show: Callable[[str], None]) -> None:
        self._keys, self._name, self._nonce, self._show = keys, device_name(name), nonce, show
        self._door: PeerId | None = None

    def ask(self, door: PeerId) -> Ask:
        """What to say first, to the key that answered."""
        self._door = door
        made = commitment(door, self._keys.peer, self._nonce)
        proof = sign(self._keys, ASK_PURPOSE, (door, self._name, made))
        return Ask(LAST_VERSION, SOFTWARE, self._keys.peer, self._name, made, proof)

    def reveal(self, challenge: Challenge) -> Reveal:
        """What to say to the door's number; the code is shown."""
        if self._door is None:
            raise PeerLied("a door said its number before it was asked")
        doors_nonce = bytes.fromhex(challenge.nonce)
        self._show(short_code(self._door, self._keys.peer, self._nonce, doors_nonce))
        return Reveal(self._nonce.hex())


def device_name(text: str) -> str:
    """What may be shown of a device's name on others' screens: short, printable ASCII."""
    shown = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text)
    return shown[:MOST_NAME].strip() or "a device"
