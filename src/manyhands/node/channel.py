"""One lane to one peer, as Peers keeps it: at most one connection, and what waits for it.

Knows nothing of dialling: it only remembers.
"""

from __future__ import annotations

import asyncio
from collections import deque

from manyhands.domain.ids import PeerId
from manyhands.domain.messages import Lane, Message
from manyhands.net.transport import Connection
from manyhands.wire.stream import Stream


class Channel:
    """One lane to one peer: at most one connection, and what waits for it."""

    def __init__(self, peer: PeerId, lane: Lane) -> None:
        self.peer, self.lane = peer, lane
        self.connection: Connection | None = None
        self.stream: Stream | None = None
        self.waiting: deque[Message] = deque()
        self.is_dialling = False
        self.dialled_s = 0.0
        self.greeting_s: float | None = None
        self.is_ours = False
        self.open_since_s: float | None = None
        self.is_flush_due = False
        self.confirming: asyncio.TimerHandle | None = None  # a confirmation that waits for company
        self.silent_since_s: float | None = None
        self.written: deque[tuple[float, int]] = deque()  # when, how many bytes; for `_waited_s`

    def adopt(self, connection: Connection, stream: Stream, *, is_ours: bool) -> None:
        """Use this connection from now on."""
        self.connection, self.stream, self.is_ours = connection, stream, is_ours
        self.open_since_s = self.silent_since_s = self.greeting_s = None
        self.written.clear()

    def usual_s(self) -> float | None:
        """What a confirmation usually takes here, or the greeting took; None if unknown."""
        known_s = self.stream.usual_acknowledgement_s if self.stream is not None else None
        return self.greeting_s if known_s is None else known_s

    def clear(self) -> None:
        """The connection is gone, and what waited for it with it."""
        self.connection = self.stream = self.open_since_s = None
        self.waiting.clear()
