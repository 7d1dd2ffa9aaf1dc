"""What is said at a door <-> bytes: one JSON object a word, its length in front.

Knows no sockets. The size is checked before anything is read. What strangers say may end on
somebody's terminal, so every text in it is printable.
"""

from __future__ import annotations

import struct

import msgspec

from manyhands.domain.admission import (
    About,
    Admission,
    Ask,
    Challenge,
    DoorWord,
    Knock,
    Look,
    NotAdmitted,
    Reveal,
)
from manyhands.domain.ids import MOST_NAME_CHARACTERS, is_hex
from manyhands.errors import FrameError

LENGTH = struct.Struct(">I")
MOST_BYTES = 1 << 18
"""The most a word at the door may take: hundreds of contacts."""

MOST_MESSAGE = 1000
"""Characters; the rest of a longer message is cut off, a longer name is refused."""

_KINDS: dict[str, type[DoorWord]] = {
    "knock": Knock,
    "ask": Ask,
    "challenge": Challenge,
    "reveal": Reveal,
    "look": Look,
    "about": About,
    "admission": Admission,
    "not_admitted": NotAdmitted,
}


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    said: msgspec.Raw


def write(word: DoorWord) -> bytes:
    """The word with its length in front. Raises FrameError when it is too large."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(word, cls))
    body = msgspec.json.encode({"kind": kind, "said": word})
    return LENGTH.pack(checked(len(body))) + body


def checked(size: int) -> int:
    """`size`, unless it is more than a word may take. Raises FrameError."""
    if size > MOST_BYTES:
        raise FrameError(f"a word of {size} bytes at the door; {MOST_BYTES} are allowed")
    return size


def read(body: bytes) -> DoorWord:
    """The word that these bytes (without the length) are. Raises FrameError for anything else."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
        word = msgspec.json.decode(envelope.said, type=_KINDS[envelope.kind])
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(
            f"this is nothing that is said at a door: {_printable(str(error))}; is it another "
            "program's port, or another version of manyhands?"
        ) from error
    return _checked_texts(word)


def _checked_texts(word: DoorWord) -> DoorWord:
    peers: tuple[str, ...] = ()
    names: list[str] = []
    match word:
        case NotAdmitted(code, message):
            return NotAdmitted(_printable(code), _printable(message))
        case Knock():
            peers, names = (word.peer,), [word.software, word.address]
        case Ask():
            peers, names = (word.peer,), [word.software, word.name]
            _check_digest(word.commitment)
        case Look():
            names = [word.software]
        case About():
            peers, names = (word.swarm,), [word.software, word.name]
        case Challenge(nonce) | Reveal(nonce):
            _check_digest(nonce)
        case Admission():
            peers = tuple(contact.peer for contact in word.contacts)
            names = [contact.address for contact in word.contacts]
            for model in word.models:
                names += [model.id, model.name, model.engine, model.dtype]
    if not all(is_hex(peer, 64) for peer in peers):
        raise FrameError("a peer named at the door is no key of 64 hex digits")
    for name in names:
        if len(name) > MOST_NAME_CHARACTERS or not name.isprintable():
            raise FrameError(f"no name to be said at a door: {_printable(name)!r}")
    return word


def _check_digest(text: str) -> None:
    if not is_hex(text, 64):
        raise FrameError("a number said at the door is not written in 64 hex digits")


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text[:MOST_MESSAGE])
