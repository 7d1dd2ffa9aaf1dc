"""A connection's life as a state machine: hello, acknowledgements, credits, goodbye.

Knows no sockets, no clock (times are arguments, in seconds), and not what the messages ask for.

    state    | the other's Hello | a message, Ack, Credit | its Goodbye | goodbye() | it is wrong
    ---------+-------------------+------------------------+-------------+-----------+------------
    opening  | open              | wrong                  | closed      | closing   | closing
    open     | wrong             | open                   | closed      | closing   | closing
    closing  | closing, one only | closing                | closed      | closing   | closing
    closed   | wrong             | wrong                  | wrong       | closed    | closed

While closing, our Goodbye is written as soon as possible and nothing after it. A Goodbye may answer
no Hello at all: that is how one learns why it was not welcome.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import (
    ACKNOWLEDGED,
    CREDITED,
    Ack,
    Credit,
    Goodbye,
    Hello,
    Message,
)
from manyhands.errors import ManyhandsError, ProtocolError, VersionMismatch
from manyhands.wire import schema
from manyhands.wire.frame import Frame

State = Literal["opening", "open", "closing", "closed"]


class _Waiting(NamedTuple):
    frame: Frame
    since_s: float
    is_acknowledged: bool


MOST_OUTLIER = 4.0
LEAST_TIME_S = 0.1
"""An acknowledgement counts as at most this many usual times, and a tenth of a second."""


class Stream:
    """One side of one connection. Whoever owns it feeds `receive` and writes what `outgoing` gives.

    After `receive`, `send`, `consumed` and `goodbye` something may have become due: ask `outgoing`.
    What is queued and was not given out by `outgoing` when the stream ends is dropped; what was
    given out and not acknowledged may or may not have arrived. Sessions, not streams, make up for
    both (a new epoch replays).
    """

    def __init__(self, hello: Hello, expect: PeerId | None = None) -> None:
        self.state: State = "opening"
        self.remote: Hello | None = None
        self.version: int | None = None  # the highest both speak, once open
        self.farewell: Goodbye | None = None  # the other side's
        self.heard_s = 0.0  # when the last frame came
        self.usual_acknowledgement_s: float | None = None  # how long they take; None: none came yet
        self._hello = hello
        self._expect = expect
        self._hello_frame: Frame | None = schema.encode(hello)  # until it is written
        self._goodbye: Goodbye | None = None  # ours, until it is written
        self._error: ManyhandsError | None = None
        self._control: deque[_Waiting] = deque()
        self._steps: deque[_Waiting] = deque()
        self._credits = 0  # steps we may still send
        self._arrived = self._arrived_said = (
            0  # acknowledged messages that came; the last Ack of it
        )
        self._sent = self._sent_confirmed = (
            0  # acknowledged messages that went; the last Ack for it
        )
        self._sent_s: deque[float] = deque()  # when each unconfirmed one went
        self._granted = hello.credits  # steps the other side may still send
        self._held = 0  # steps that came and were not consumed
        self._freed = 0  # steps consumed whose credit was not given back yet

    @property
    def due(self) -> Literal["", "later", "now"]:
        """Whether `outgoing` has something to give; a confirmation alone may come later."""
        if self.state == "closed":
            return ""
        if self._hello_frame is not None or self._goodbye is not None:
            return "now"
        if self.remote is None or self.state != "open":
            return ""
        if self._control or (self._steps and self._credits) or self._owes_credit:
            return "now"
        return "later" if self._arrived > self._arrived_said else ""

    @property
    def _owes_credit(self) -> bool:
        """Half a window at a time: a credit frame for every step would double the frames, and a
        peer that has used up its credits always finds at least half of them freed in the end.
        """
        return self._freed > 0 and 2 * self._freed >= self._hello.credits

    @property
    def waiting_steps(self) -> int:
        """Steps queued here, for want of credits or of the other side's Hello."""
        return len(self._steps)

    def receive(self, frame: Frame, now_s: float) -> list[Message]:
        """The messages for the roles that `frame` brings; the stream's own are eaten here.

        Raises ProtocolError (and FrameError, VersionMismatch, BadSampling) for whatever breaks the
        protocol; a Goodbye that says why is then due, and every later frame raises as well.
        """
        if self._error is not None:
            raise ProtocolError(f"a frame after the stream had failed with: {self._error}")
        try:
            if self.state == "closed":
                raise ProtocolError("a frame after Goodbye; the other side must dial again")
            message = schema.decode(frame)
            self.heard_s = now_s
            return self._take(message)
        except ManyhandsError as error:
            self._error = error
            self.goodbye(error)
            raise

    def send(self, message: Message, now_s: float) -> None:
        """Queue a message; while closing or closed it is dropped.

        Raises ProtocolError for a message that cannot be sent or is the stream's own (Hello, Ack,
        Credit, Goodbye), and FrameError for one over its cap; the stream itself is not harmed.
        """
        if isinstance(message, (Hello, Ack, Credit, Goodbye)):
            raise ProtocolError(f"{type(message).__name__} is said by the stream itself, not sent")
        frame = schema.encode(message)
        if self.state in ("opening", "open"):
            kind = type(message)
            queue = self._steps if kind in CREDITED else self._control
            queue.append(_Waiting(frame, now_s, kind in ACKNOWLEDGED))

    def outgoing(self, now_s: float) -> list[Frame]:
        """What is to be written now, in order; each frame is given once.

        Own Hello first and nothing else until the other's is there; then Ack, Credit, everything
        that needs no credit in the order it was sent, and Steps in theirs while credits last.
        """
        frames: list[Frame] = []
        if self.state == "closed":
            return frames
        if self._hello_frame is not None:
            frames.append(self._hello_frame)
            self._hello_frame = None
        if self.remote is not None and (self.state == "open" or self._goodbye is not None):
            self._speak(frames, now_s)
        if self._goodbye is not None:
            frames.append(schema.encode(self._goodbye))
            self._goodbye = None
            self._drop()
        return frames

    def consumed(self, count: int) -> None:
        """The role has computed `count` of the Steps it was given: room for as many new ones.

        Raises ProtocolError when fewer are held.
        """
        if not 0 <= count <= self._held:
            raise ProtocolError(f"{count} steps said to be consumed while {self._held} are held")
        self._held -= count
        self._freed += count

    def goodbye(self, error: ManyhandsError | None = None) -> None:
        """Close; the other side is told `error`. What may be written still goes before it."""
        if self.state in ("opening", "open"):
            self.state = "closing"
            self._goodbye = Goodbye() if error is None else Goodbye(error.code, str(error))

    def oldest_unacknowledged_s(self, now_s: float) -> float | None:
        """Seconds since the oldest message not yet acknowledged was given out; None if all are."""
        return now_s - self._sent_s[0] if self._sent_s else None

    def oldest_waiting_s(self, now_s: float) -> float | None:
        """Seconds since the oldest message still queued here was sent; None if none is."""
        heads = [queue[0].since_s for queue in (self._control, self._steps) if queue]
        return now_s - min(heads) if heads else None

    def _drop(self) -> None:
        self._control.clear()
        self._steps.clear()

    def _speak(self, frames: list[Frame], now_s: float) -> None:
        if self._arrived > self._arrived_said:
            self._arrived_said = self._arrived
            frames.append(schema.encode(Ack(self._arrived)))
        if self._owes_credit:
            frames.append(schema.encode(Credit(self._freed)))
            self._granted += self._freed
            self._freed = 0
        while self._control:
            self._give(self._control.popleft(), frames, now_s)
        while self._steps and self._credits:
            self._credits -= 1
            self._give(self._steps.popleft(), frames, now_s)

    def _give(self, waiting: _Waiting, frames: list[Frame], now_s: float) -> None:
        frames.append(waiting.frame)
        if waiting.is_acknowledged:
            self._sent += 1
            self._sent_s.append(now_s)

    def _take(self, message: Message) -> list[Message]:
        if isinstance(message, Goodbye):
            self.state, self.farewell = "closed", message
            self._drop()
            return []
        if isinstance(message, Hello):
            self._greet(message)
            return []
        if self.remote is None:
            raise ProtocolError(f"the first frame is {type(message).__name__}; it must be Hello")
        if isinstance(message, Ack):
            self._confirm(message.count)
            return []
        if isinstance(message, Credit):
            self._credits += message.count
            return []
        kind = type(message)
        if kind in CREDITED:
            if not self._granted:
                raise ProtocolError(
                    f"{kind.__name__} without credit; {self._hello.credits} may be held and "
                    f"{self._held} are not computed yet"
                )
            self._granted -= 1
            self._held += 1
        if kind in ACKNOWLEDGED:
            self._arrived += 1
        return [message]

    def _greet(self, hello: Hello) -> None:
        if self.remote is not None:
            raise ProtocolError(f"a second Hello, from peer {short(hello.peer)}")
        if self._expect is not None and hello.peer != self._expect:
            raise ProtocolError(
                f"Hello names peer {short(hello.peer)} where {short(self._expect)} was proven; "
                f"is its address out of date?"
            )
        own = self._hello
        version = min(own.last_version, hello.last_version)
        if version < max(own.first_version, hello.first_version):
            raise VersionMismatch(
                f"we speak protocol versions {own.first_version} to {own.last_version}, peer "
                f"{short(hello.peer)} ({hello.software}) speaks {hello.first_version} to "
                f"{hello.last_version}; update the older of the two"
            )
        self.remote, self.version, self._credits = hello, version, hello.credits
        if self.state == "opening":
            self.state = "open"

    def _confirm(self, count: int) -> None:
        if not self._sent_confirmed <= count <= self._sent:
            raise ProtocolError(
                f"Ack of {count} messages, where {self._sent} were sent and "
                f"{self._sent_confirmed} acknowledged before"
            )
        for _ in range(count - self._sent_confirmed):
            took_s = self.heard_s - self._sent_s.popleft()
            usual_s = self.usual_acknowledgement_s
            if usual_s is not None:  # one that slept must not count for ever
                took_s = 0.9 * usual_s + 0.1 * min(took_s, MOST_OUTLIER * usual_s + LEAST_TIME_S)
            self.usual_acknowledgement_s = took_s
        self._sent_confirmed = count
