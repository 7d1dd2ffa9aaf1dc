"""Frames <-> messages: the only place where bytes from a peer become a message.

The table of kinds is closed; a header must have exactly the fields of its form (`wire/forms`), each
in its bounds, and the tensors it announces must add up exactly to the payload. Knows nothing of the
order in which messages may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

import msgspec

from manyhands.domain.messages import (
    Ack,
    Announce,
    AskBlock,
    AskMove,
    AskPieces,
    Beat,
    Block,
    Credit,
    Gap,
    Goodbye,
    Hello,
    LinkLost,
    ManifestTold,
    Message,
    NotGiven,
    NotMoved,
    PiecesHad,
    Probe,
    Probed,
    Ready,
    Refused,
    Renew,
    Replay,
    Replayed,
    Rewire,
    SessionClose,
)
from manyhands.domain.work import Result, SessionOpen, Step
from manyhands.errors import ProtocolError
from manyhands.wire.forms import Cut, Form
from manyhands.wire.frame import Buffer, Frame, Kind, check_size

KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        Hello: Kind.HELLO,
        Ack: Kind.ACK,
        Credit: Kind.CREDIT,
        Goodbye: Kind.GOODBYE,
        SessionOpen: Kind.SESSION_OPEN,
        Ready: Kind.READY,
        Refused: Kind.REFUSED,
        Step: Kind.STEP,
        Result: Kind.RESULT,
        Gap: Kind.GAP,
        Rewire: Kind.REWIRE,
        Replay: Kind.REPLAY,
        Replayed: Kind.REPLAYED,
        LinkLost: Kind.LINK_LOST,
        Beat: Kind.BEAT,
        Renew: Kind.RENEW,
        SessionClose: Kind.SESSION_CLOSE,
        Announce: Kind.ANNOUNCE,
        Probe: Kind.PROBE,
        Probed: Kind.PROBED,
        AskPieces: Kind.ASK_PIECES,
        ManifestTold: Kind.MANIFEST_TOLD,
        PiecesHad: Kind.PIECES_HAD,
        AskBlock: Kind.ASK_BLOCK,
        Block: Kind.BLOCK,
        NotGiven: Kind.NOT_GIVEN,
        AskMove: Kind.ASK_MOVE,
        NotMoved: Kind.NOT_MOVED,
    }
)
"""Message class -> kind, one to one."""

_FORMS = {cls: Form(cls) for cls in KINDS}
_ENCODER = msgspec.json.Encoder()
# plain ints as keys and values: an IntEnum costs more to hash than the rest of a small message
_WRITERS = {cls: (int(kind), _FORMS[cls]) for cls, kind in KINDS.items()}
_DECODERS = {
    int(kind): msgspec.json.Decoder(_FORMS[cls].struct, strict=True) for cls, kind in KINDS.items()
}
_READERS = {int(kind): _FORMS[cls] for cls, kind in KINDS.items()}


def encode(message: Message) -> Frame:
    """The frame of `message`; tensors are not copied.

    Raises ProtocolError for what the other side would refuse (a value out of its bounds, a NaN, an
    infinity that has no form) and FrameError over a cap, so that a bad message is noticed where it
    was made and costs no connection.
    """
    if type(message) not in _WRITERS:
        raise ProtocolError(f"a {type(message).__name__} is no message; see domain/messages")
    kind, form = _WRITERS[type(message)]
    parts: list[Buffer] = []
    try:
        header = _ENCODER.encode(form.write(message, parts))
        # NaN and infinities are written as null, which no number's form takes: reading finds them
        _DECODERS[kind].decode(header)
    except (ValueError, TypeError, OverflowError) as error:  # msgspec's own are ValueErrors
        raise ProtocolError(f"this {type(message).__name__} cannot be sent: {error}") from error
    frame = Frame(kind, header, tuple(parts))
    check_size(kind, len(header), frame.payload_size)
    return frame


def decode(frame: Frame) -> Message:
    """The message of `frame`; its tensors share the payload's memory.

    Raises FrameError (unknown kind, over a cap), BadSampling, and ProtocolError for everything else
    that is wrong with it; never anything else, whatever the bytes.
    """
    kind = frame.kind
    check_size(kind, len(frame.header), frame.payload_size)
    cut = Cut(frame.payload)
    try:
        message = _READERS[kind].read(_DECODERS[kind].decode(frame.header), cut)
    except ProtocolError as error:
        raise ProtocolError(f"{Kind(kind).name}: {error}") from error
    except ValueError as error:  # msgspec's own, UnicodeError, and those of the domain's classes
        raise ProtocolError(
            f"{Kind(kind).name} is not as this version writes it: {error}"
        ) from error
    if cut.left:
        raise ProtocolError(
            f"{Kind(kind).name} has {cut.left} bytes of payload that belong to no tensor"
        )
    return cast("Message", message)
