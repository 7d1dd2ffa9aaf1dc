"""What is said at a door <-> bytes: one JSON object each way, its length in front.

Knows no sockets. The size is checked before anything is read.
"""

from __future__ import annotations

import struct

import msgspec

from manyhands.domain.admission import Admission, DoorWord, Knock, NotAdmitted
from manyhands.errors import FrameError

LENGTH = struct.Struct(">I")
MOST_BYTES = 1 << 18
"""The most a word at the door may take: hundreds of contacts."""

_KINDS: dict[str, type[Knock] | type[Admission] | type[NotAdmitted]] = {
    "knock": Knock,
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
        kind = _KINDS[envelope.kind]
        return msgspec.json.decode(envelope.said, type=kind)
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(
            f"this is nothing that is said at a door: {error}; is it another program's port?"
        ) from error
