"""Bytes <-> frames: a length, a kind, a JSON header, a raw payload, under the caps of the kind.

Knows nothing of messages: what a header says is read in `wire/schema` only.

    4 bytes  length of everything that follows, big-endian
    2 bytes  kind
    4 bytes  header length
    header   JSON, UTF-8
    payload  raw bytes, to the end
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from manyhands.errors import FrameError

Buffer = bytes | bytearray | memoryview
"""What a payload may be made of; a memoryview must be one of plain bytes (format "B")."""

_PREFIX = struct.Struct(">IHI")
PREFIX_BYTES = _PREFIX.size
_AFTER_LENGTH = PREFIX_BYTES - 4
_SCRATCH_BYTES = 1 << 16


class Kind(IntEnum):
    """The number of each message on the wire; a number once used is never given to another."""

    HELLO = 1
    ACK = 2
    CREDIT = 3
    GOODBYE = 4
    SESSION_OPEN = 16
    READY = 17
    REFUSED = 18
    STEP = 19
    RESULT = 20
    GAP = 21
    REWIRE = 22
    REPLAY = 23
    REPLAYED = 24
    LINK_LOST = 25
    BEAT = 26
    RENEW = 27
    SESSION_CLOSE = 28
    ANNOUNCE = 48
    PROBE = 56
    PROBED = 57
    ASK_PIECES = 64
    MANIFEST_TOLD = 65
    PIECES_HAD = 66
    ASK_BLOCK = 67
    BLOCK = 68
    NOT_GIVEN = 69
    ASK_MOVE = 72
    NOT_MOVED = 73


class Cap(NamedTuple):
    """The most bytes a kind's header and payload may have."""

    header: int
    payload: int


_SMALL = Cap(1 << 16, 0)
CAPS: Mapping[int, Cap] = MappingProxyType(
    {
        **dict.fromkeys((int(kind) for kind in Kind), _SMALL),
        Kind.SESSION_OPEN: Cap(1 << 22, 0),
        Kind.STEP: Cap(1 << 22, 1 << 26),
        # every row's scores over a vocabulary of 152k: a chunk of 128 tokens is 78 MB in fp32
        Kind.RESULT: Cap(1 << 24, 1 << 27),
        Kind.REWIRE: Cap(1 << 18, 0),
        Kind.ANNOUNCE: Cap(1 << 20, 0),
        Kind.PROBE: Cap(1 << 16, 1 << 18),
        # 67 bytes a piece: the manifest of 900 GB
        Kind.MANIFEST_TOLD: Cap(1 << 24, 0),
        Kind.PIECES_HAD: Cap(1 << 21, 0),
        Kind.BLOCK: Cap(1 << 10, 1 << 18),
    }
)
"""Kind -> caps. A kind that is not here does not exist."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `payload` is a tuple of buffers that follow each other on the wire.

    A tuple, so that tensors are sent from where they lie. A frame that was read has one buffer, or
    none where the payload is empty.
    """

    kind: int
    header: bytes
    payload: tuple[Buffer, ...] = ()

    @property
    def payload_size(self) -> int:
        """Payload bytes."""
        return sum(map(len, self.payload))

    @property
    def size(self) -> int:
        """Bytes on the wire, prefix included."""
        return PREFIX_BYTES + len(self.header) + self.payload_size


def check_size(kind: int, header_size: int, payload_size: int) -> None:
    """Raise FrameError when the kind is unknown or a size is over its cap."""
    cap = CAPS.get(kind)
    if cap is None:
        raise FrameError(f"frame of unknown kind {kind}; is the other side of a newer version?")
    if header_size > cap.header:
        raise FrameError(
            f"header of a {Kind(kind).name} frame has {header_size} bytes; its cap is {cap.header}"
        )
    if payload_size > cap.payload:
        raise FrameError(
            f"payload of a {Kind(kind).name} frame has {payload_size} bytes; its cap is "
            f"{cap.payload}; send fewer rows at a time"
        )


def encode(frame: Frame) -> list[Buffer]:
    """The buffers to write, in order; no payload is copied. Raises FrameError over a cap."""
    header_size, payload_size = len(frame.header), frame.payload_size
    check_size(frame.kind, header_size, payload_size)
    prefix = _PREFIX.pack(_AFTER_LENGTH + header_size + payload_size, frame.kind, header_size)
    return [prefix + frame.header, *frame.payload]


class FrameReader:
    """Bytes in, frames out, however the bytes are cut up.

    Either `feed(data)`, or without a copy, as asyncio.BufferedProtocol wants it: write into
    `buffer()`, then say with `advance(n)` how many bytes were written. Both raise FrameError for an
    unknown kind, a size over its cap, or lengths that contradict each other, as soon as the prefix
    is there and before anything of that size is allocated; after that the reader stays broken.
    """

    __slots__ = ("_end", "_error", "_filled", "_kind", "_parts", "_scratch", "_start", "_target")

    def __init__(self) -> None:
        # Small frames are read many at a time into the scratch and copied out of it. A frame not
        # yet whole there is moved to buffers of its own (_parts: header, payload), and the rest of
        # it is read straight into them.
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = self._end = 0
        self._kind = 0
        self._parts: tuple[bytearray, bytearray] | None = None
        self._target = 0
        self._filled = 0
        self._error: FrameError | None = None

    def buffer(self, size_hint: int = -1) -> memoryview:
        """Where the next bytes go; never empty. At most `size_hint` bytes when that is above 0."""
        if self._parts is not None:
            view = memoryview(self._parts[self._target])[self._filled :]
        else:
            view = self._scratch[self._end :]
        return view[:size_hint] if size_hint > 0 else view

    def advance(self, count: int) -> list[Frame]:
        """The frames that became whole now that `count` bytes were written into `buffer()`."""
        if self._error is not None:
            raise FrameError(str(self._error))
        if self._parts is None:
            self._end += count
            try:
                return self._cut()
            except FrameError as error:
                self._error = error
                raise
        self._filled += count
        return self._grown()

    def feed(self, data: Buffer) -> list[Frame]:
        """The frames that became whole with `data`."""
        frames: list[Frame] = []
        source, at = memoryview(data), 0
        while at < len(source):
            view = self.buffer(len(source) - at)
            view[:] = source[at : at + len(view)]
            at += len(view)
            frames += self.advance(len(view))
        return frames

    def end(self) -> None:
        """The bytes have ended. Raises FrameError when they ended inside a frame."""
        if self._parts is not None or self._start < self._end:
            raise FrameError("the bytes ended inside a frame; the link was cut, dial again")

    def _grown(self) -> list[Frame]:
        """After bytes went into the buffers of one large frame: that frame, if it is whole."""
        parts = self._parts
        if parts is None or self._filled < len(parts[self._target]):
            return []
        if self._target == 0 and parts[1]:
            self._target, self._filled = 1, 0
            return []
        self._parts = None
        return [Frame(self._kind, bytes(parts[0]), (parts[1],) if parts[1] else ())]

    def _cut(self) -> list[Frame]:
        """Every whole frame of the scratch; a last one that is not whole gets its own buffers."""
        frames: list[Frame] = []
        scratch = self._scratch
        while self._end - self._start >= PREFIX_BYTES:
            length, kind, header_size = _PREFIX.unpack_from(scratch, self._start)
            payload_size = length - _AFTER_LENGTH - header_size
            if payload_size < 0:
                raise FrameError(
                    f"frame of kind {kind} has {length} bytes and a header of {header_size}; "
                    f"these are not frames of this protocol"
                )
            check_size(kind, header_size, payload_size)
            first = self._start + PREFIX_BYTES
            middle, last = first + header_size, first + header_size + payload_size
            if last > self._end:
                self._kind = kind
                self._open(header_size, payload_size)
                return frames
            payload = (bytes(scratch[middle:last]),) if payload_size else ()
            frames.append(Frame(kind, bytes(scratch[first:middle]), payload))
            self._start = last
        rest = self._end - self._start
        # at most nine bytes of a prefix are left: to the front with them, so there is always room
        scratch[:rest] = bytes(scratch[self._start : self._end])
        self._start, self._end = 0, rest
        return frames

    def _open(self, header_size: int, payload_size: int) -> None:
        """Move the begun frame at `_start` into buffers of its own."""
        parts = (bytearray(header_size), bytearray(payload_size))
        have = self._scratch[self._start + PREFIX_BYTES : self._end]
        header_have = min(len(have), header_size)
        parts[0][:header_have] = have[:header_have]
        parts[1][: len(have) - header_have] = have[header_have:]
        self._parts = parts
        self._target = 0 if header_have < header_size else 1
        self._filled = header_have if self._target == 0 else len(have) - header_have
        self._start = self._end = 0
