"""Connections to other peers: dialled when first needed, two lanes a pair, messages in and out.

Knows nothing of sessions. Messages to a peer that cannot be reached are dropped, and the listener
is told; within a connection they arrive in order or the connection is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, Protocol

from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import BULK, CREDITED, Hello, Lane, Message
from manyhands.domain.settings import Settings
from manyhands.domain.work import Result, Step
from manyhands.errors import ManyhandsError, PeerLost, ProtocolError, VersionMismatch, from_code
from manyhands.net.transport import Connection, Transport
from manyhands.node.allowance import Allowance
from manyhands.node.channel import Channel
from manyhands.wire.schema import decode, encode
from manyhands.wire.stream import Stream

log = logging.getLogger(__name__)

Clock = Callable[[], float]
LANES: tuple[Lane, ...] = ("steps", "bulk")
FIRST_VERSION = 1
LAST_VERSION = 1
SOFTWARE = "manyhands"
HURRIED = frozenset({Step, Result})
"""Kinds that are written at once: a token waits for them, every turn of the loop is on its way."""

Loss = Literal["closed", "silent"]
"""closed: the connection ended or could not be made; silent: nothing confirms what was sent."""


class Listener(Protocol):
    """What a node does with what comes from others; called on the event loop, must not wait."""

    def message(self, source: PeerId, message: Message, done: Callable[[], None]) -> None:
        """A message arrived; call `done` once it is worked off (it frees a place for the next)."""

    def connected(self, peer: PeerId, lane: Lane) -> None:
        """A connection is open."""

    def link_lost(self, peer: PeerId, lane: Lane, loss: Loss) -> None:
        """What was sent to this peer may not have arrived."""


class Peers:
    """All connections of one node. `run` must be running for anything to move."""

    def __init__(
        self,
        me: PeerId,
        transport: Transport,
        clock: Clock,
        settings: Settings,
        address_of: Callable[[PeerId], str | None],
        listener: Listener,
        allowance: Allowance | None = None,
    ) -> None:
        self.me = me
        self._transport, self._clock, self._settings = transport, clock, settings
        self._address_of, self._listener = address_of, listener
        self._allowance = allowance or Allowance(clock)
        self._channels: dict[tuple[PeerId, Lane], Channel] = {}
        self._warned: set[PeerId] = set()  # of another version
        self._greeting: Counter[PeerId] = Counter()  # accepted connections that said no Hello yet
        self._tasks: asyncio.TaskGroup | None = None
        self._early: deque[asyncio._CoroutineLike[None]] = deque()
        self._is_over, self._watched_s = False, clock()

    async def listen(self) -> str:
        """Take connections; returns our address."""
        return await self._transport.listen(self._accept)

    async def run(self) -> None:
        """Own the tasks of all connections; watches for silence. Ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            while self._early:
                tasks.create_task(self._early.popleft())
            try:
                while True:
                    await asyncio.sleep(self._settings.beat_every_s)
                    self._watch()
            finally:
                self._tasks, self._is_over = None, True

    def redial(self) -> None:
        """End every connection without a word: who is on the other side may not be any more."""
        for connection in [one.connection for one in self._channels.values() if one.connection]:
            connection.close()

    async def close(self) -> None:
        """Say goodbye on every connection and close."""
        for channel in self._channels.values():
            if channel.stream is not None and channel.connection is not None:
                channel.stream.goodbye(None)
                self._flush(channel)
                channel.connection.close()
            channel.clear()
        await self._transport.close()

    def connected(self, lane: Lane) -> tuple[PeerId, ...]:
        """Peers with an open connection on this lane."""
        return tuple(
            channel.peer
            for channel in self._channels.values()
            if channel.lane == lane and channel.open_since_s is not None
        )

    def send(self, peer: PeerId, message: Message) -> None:
        """Queue a message; never waits. To ourselves it goes without leaving the process.

        Raises ProtocolError or FrameError for a message that the other side would refuse.
        """
        if peer == self.me:
            asyncio.get_running_loop().call_soon(
                self._listener.message, peer, message, _nothing_to_do
            )
            return
        channel = self._channel(peer, "bulk" if type(message) in BULK else "steps")
        if channel.stream is not None and channel.open_since_s is not None:
            channel.stream.send(message, self._clock())
            if type(message) in HURRIED:
                self._flush(channel)
            else:
                self._flush_soon(channel)
            return
        encode(message)  # so that a bad message is noticed here, not when the connection opens
        channel.waiting.append(message)
        self._dial_soon(channel)

    def connect(self, peer: PeerId) -> None:
        """Open the connection for steps before the first step needs it; the listener hears how."""
        if peer != self.me:
            self._dial_soon(self._channel(peer, "steps"))

    def _channel(self, peer: PeerId, lane: Lane) -> Channel:
        known = self._channels.get((peer, lane))
        if known is None:
            known = self._channels[peer, lane] = Channel(peer, lane)
        return known

    def _dial_soon(self, channel: Channel) -> None:
        if channel.connection is None and not channel.is_dialling and not self._is_over:
            channel.is_dialling = True
            channel.dialled_s = self._clock()
            self._spawn(self._dial(channel))

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        if self._tasks is not None:
            self._tasks.create_task(work)
        elif self._is_over:
            work.close()  # nothing goes anywhere any more
        else:
            self._early.append(work)

    def _stream(self, lane: Lane, peer: PeerId) -> Stream:
        window = self._settings.step_credits
        hello = Hello(self.me, FIRST_VERSION, LAST_VERSION, lane, window, SOFTWARE)
        return Stream(hello, expect=peer)

    async def _dial(self, channel: Channel) -> None:
        try:
            async with asyncio.timeout(self._settings.dial_deadline_s):
                connection = await self._reach(channel.peer)
        except (PeerLost, TimeoutError) as error:
            channel.is_dialling = False
            if channel.connection is None:
                self._complain(channel.peer, error)
                channel.clear()
                self._listener.link_lost(channel.peer, channel.lane, "closed")
            return
        channel.is_dialling = False
        if channel.connection is not None:  # it dialled us meanwhile, and that one is in use
            connection.close()
            return
        channel.adopt(connection, self._stream(channel.lane, channel.peer), is_ours=True)
        self._flush(channel)
        await self._read(channel, connection)

    async def _reach(self, peer: PeerId) -> Connection:
        address = self._address_of(peer)
        if address is None:
            raise PeerLost(f"no address is known for peer {short(peer)}")
        return await self._transport.dial(address, peer)

    def _accept(self, connection: Connection) -> None:
        self._spawn(self._greet(connection))

    async def _greet(self, connection: Connection) -> None:
        """The first frame of a connection dialled to us says its lane; then decide if it stays."""
        peer = connection.remote
        self._greeting[peer] += 1
        try:
            stream, lane = await self._first_hello(connection)
        except (ManyhandsError, TimeoutError) as error:
            self._complain(peer, error)
            connection.close()
            return
        finally:
            self._greeting[peer] -= 1  # what waited and got no connection is dialled for after all
            asyncio.get_running_loop().call_soon(self._dial_for_those_waiting, peer)
        channel = self._channel(peer, lane)
        if not self._may_replace(channel):
            connection.close()
            return
        replaced, was_open = channel.connection, channel.open_since_s is not None
        channel.adopt(connection, stream, is_ours=False)
        if replaced is not None:
            replaced.close()
            if was_open:
                self._listener.link_lost(peer, lane, "closed")
        self._opened(channel)
        await self._read(channel, connection)

    async def _first_hello(self, connection: Connection) -> tuple[Stream, Lane]:
        async with asyncio.timeout(self._settings.dial_deadline_s):
            frame = await connection.receive()
        hello = decode(frame)
        if not isinstance(hello, Hello):
            raise ProtocolError(f"a {type(hello).__name__} came before Hello")
        stream = self._stream(hello.lane, connection.remote)
        try:
            stream.receive(frame, self._clock())
        except ManyhandsError:  # our own Hello tells the other side as much
            for farewell in stream.outgoing(self._clock()):
                connection.send(farewell)
            raise
        return stream, hello.lane

    def _complain(self, peer: PeerId, error: Exception) -> None:
        """Warn of what broke the protocol, of another version once: it dials again and again."""
        is_known = isinstance(error, (PeerLost, TimeoutError)) or peer in self._warned
        if isinstance(error, VersionMismatch):
            self._warned.add(peer)
        (log.info if is_known else log.warning)("no link with %s: %s", short(peer), error)

    def _dial_for_those_waiting(self, peer: PeerId) -> None:
        for lane in LANES:
            channel = self._channels.get((peer, lane))
            if channel is not None and channel.waiting:
                self._dial_soon(channel)

    def _may_replace(self, channel: Channel) -> bool:
        """Of two simultaneous dials the smaller id's stays; a later one replaces a dead one."""
        if channel.connection is None or not channel.is_ours or channel.peer < self.me:
            return True
        since = channel.open_since_s
        return since is not None and self._clock() - since > self._settings.dial_deadline_s

    def _opened(self, channel: Channel) -> None:
        channel.open_since_s = self._clock()
        if channel.is_ours:  # the dial and the Hello were a round trip each
            channel.greeting_s = (channel.open_since_s - channel.dialled_s) / 2
        while channel.waiting and channel.stream is not None:
            channel.stream.send(channel.waiting.popleft(), self._clock())
        self._flush(channel)
        self._listener.connected(channel.peer, channel.lane)

    async def _read(self, channel: Channel, connection: Connection) -> None:
        """Everything one connection brings, until it ends."""
        try:
            while channel.connection is connection:
                frame = await connection.receive()
                if channel.connection is not connection or channel.stream is None:
                    break
                self._take(channel, channel.stream.receive(frame, self._clock()))
                farewell = None if channel.stream is None else channel.stream.farewell
                if farewell is not None and farewell.code:
                    self._complain(channel.peer, from_code(farewell.code, farewell.reason))
                if farewell is not None:
                    break
        except PeerLost:
            pass
        except ManyhandsError as error:
            self._complain(channel.peer, error)
            if channel.connection is connection and channel.stream is not None:
                channel.stream.goodbye(error)
                self._flush(channel)
        connection.close()
        if channel.connection is not connection:
            return
        if channel.open_since_s is None and self._greeting[channel.peer]:
            # refused for the one it dialled itself, whose Hello is late: what waits goes there
            channel.connection = channel.stream = None
        else:
            channel.clear()
            log.info("the %s connection to %s ended", channel.lane, short(channel.peer))
            self._listener.link_lost(channel.peer, channel.lane, "closed")

    def _take(self, channel: Channel, messages: list[Message]) -> None:
        is_open = channel.stream is not None and channel.stream.state == "open"
        if channel.open_since_s is None and is_open:
            self._opened(channel)
        for message in messages:
            done = _nothing_to_do
            if type(message) in CREDITED:
                done = self._worked_off(channel, channel.stream)
            self._listener.message(channel.peer, message, done)
        self._flush_when_due(channel)

    def _worked_off(self, channel: Channel, stream: Stream | None) -> Callable[[], None]:
        def done() -> None:
            if stream is not None and channel.stream is stream:
                stream.consumed(1)
                self._flush_when_due(channel)

        return done

    def _flush_when_due(self, channel: Channel) -> None:
        """Write at once what somebody waits for; a confirmation alone may wait for company."""
        due = "" if channel.stream is None else channel.stream.due
        if due == "now":
            self._flush_soon(channel)
        elif due == "later" and channel.confirming is None:
            wait_s = self._settings.confirm_within_s
            loop = asyncio.get_running_loop()
            channel.confirming = loop.call_later(wait_s, self._flush, channel)

    def _flush_soon(self, channel: Channel) -> None:
        """Write at the end of this turn of the loop, so that confirmations go together."""
        if not channel.is_flush_due:
            channel.is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush, channel)

    def _flush(self, channel: Channel) -> None:
        channel.is_flush_due = False
        if channel.confirming is not None:
            channel.confirming.cancel()
            channel.confirming = None
        if channel.stream is None or channel.connection is None:
            return
        for frame in channel.stream.outgoing(self._clock()):
            channel.written.append((self._clock(), frame.size))
            self._allowance.sent(frame.size)
            channel.connection.send(frame)

    def _watch(self) -> None:
        """Report links on which what was sent stays unconfirmed for too long, again and again."""
        now_s, least_s = self._clock(), self._settings.silent_after_s
        late_s, self._watched_s = now_s - self._watched_s, now_s
        if late_s > 3 * self._settings.beat_every_s:
            return  # we ourselves were held up: confirmations may lie unread
        for channel in list(self._channels.values()):
            self._end_if_mute(channel)
            age_s, told_s = self._waited_s(channel), channel.silent_since_s
            if age_s is None:
                channel.silent_since_s = None
            elif age_s > self._limit_s(channel) and (told_s is None or now_s - told_s > least_s):
                channel.silent_since_s = now_s
                log.info("peer %s confirms nothing for %.2f s", short(channel.peer), age_s)
                self._listener.link_lost(channel.peer, channel.lane, "silent")

    def _limit_s(self, channel: Channel) -> float:
        """How long a confirmation may take: several times what it usually takes.

        A link that has confirmed nothing yet is taken to be like the slowest other one we know.
        """
        settings = self._settings
        usual_s = channel.usual_s()
        if usual_s is None:
            others = [one.usual_s() for one in self._channels.values()]
            usual_s = max((other for other in others if other is not None), default=None)
        if usual_s is None:
            return max(settings.silent_after_s, settings.dial_deadline_s / 2)
        return max(settings.silent_after_s, settings.silent_factor * usual_s)

    def _end_if_mute(self, channel: Channel) -> None:
        """A connection that was made but brings no Hello must not keep messages waiting forever."""
        if channel.connection is None or channel.open_since_s is not None:
            return
        if self._clock() - channel.dialled_s > self._settings.dial_deadline_s:
            channel.connection.close()

    def _waited_s(self, channel: Channel) -> float | None:
        """How long we wait for a connection or a confirmation, less the time the bytes may take."""
        if channel.stream is None or channel.open_since_s is None:
            is_coming = channel.is_dialling or channel.connection is not None
            is_awaited = is_coming and channel.lane == "steps"
            return self._clock() - channel.dialled_s if is_awaited else None
        age_s = channel.stream.oldest_unacknowledged_s(self._clock())
        if age_s is None:
            channel.written.clear()
            return None
        # what was written before the oldest unconfirmed message has arrived: it takes no more time
        while channel.written and self._clock() - channel.written[0][0] > age_s:
            channel.written.popleft()
        size_bytes = sum(size for _, size in channel.written)
        return age_s - size_bytes / self._settings.slowest_link_bytes_per_s


def _nothing_to_do() -> None:
    """What is called when an uncredited message is worked off."""
