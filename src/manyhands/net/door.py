"""A swarm's door: where the invited become members, and members renew what they show.

A port of its own beside the one for peers, so that strangers never reach the latter. Whoever knocks
knows the door's key from the invite, and shows its secret only to that key; a member shows its
certificate. One question and one answer a connection, all of it within one deadline; only who asks
to be approved waits longer, for a person. The other side is `net/knocking`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Protocol

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
from manyhands.domain.ids import PeerId, short
from manyhands.errors import FrameError, ManyhandsError, PeerError, ProtocolError, UserError
from manyhands.net.accepting import Accepting
from manyhands.net.tls import Contexts
from manyhands.trust.certificate import is_guest, peer_of
from manyhands.wire import door as wire

log = logging.getLogger(__name__)

Decide = Callable[[Knock, PeerId | None], Admission]
"""(who knocks, which member its certificate shows or None) -> admission; raises what refuses it."""


class Reception(Protocol):
    """Who sees to those that neither are members nor hold an invite.

    Two of them raise what refuses the one at the door.
    """

    def about(self) -> About:
        """Whose door this is."""

    def challenge(self, ask: Ask) -> Challenge:
        """The door's number."""

    async def approved(self, ask: Ask, challenge: Challenge, reveal: Reveal) -> Admission:
        """Return once a person said yes; cancelled when the asking one leaves."""


MOST_AT_ONCE = 64
"""So many may be at the door at a time, handshakes included; others wait in the kernel."""

WARN_EVERY_S = 10.0
"""Refusals are told to the founder at most this often, so that strangers cannot fill its screen."""

FAREWELL_S = 1.0
"""TLS may take so long to end in order; then the connection is dropped."""


class Door:
    """Listens at `host` and `port` (0: a free one) with `contexts`' own certificate."""

    def __init__(
        self,
        contexts: Contexts,
        host: str,
        port: int,
        decide: Decide,
        deadline_s: float,
        places: int = MOST_AT_ONCE,
        reception: Reception | None = None,
    ) -> None:
        self._contexts, self._host, self._port = contexts, host, port
        self._decide, self._reception, self._deadline_s = decide, reception, deadline_s
        self._accepting = Accepting(self._answer, places)
        self._warn_from_s = 0.0

    async def open(self) -> int:
        """Take knocks from now on; the port. Raises UserError when it is taken."""
        try:
            return await self._accepting.open(self._host, self._port)
        except UserError as error:
            raise UserError(f"the door for newcomers cannot be opened: {error}") from error

    async def close(self) -> None:
        """Take no more knocks; who stands at the door is sent away."""
        self._accepting.stop()
        await self._accepting.stopped()

    async def _answer(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            async with asyncio.timeout(self._deadline_s) as limit:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    client,
                    ssl=self._contexts.door,
                    ssl_handshake_timeout=self._deadline_s,
                    ssl_shutdown_timeout=FAREWELL_S,
                )
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                try:
                    writer.write(wire.write(await self._heard(reader, writer, limit)))
                    await writer.drain()
                    await _leave(writer)
                finally:
                    transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("somebody at the door left without an answer: %s", error)

    async def _heard(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: asyncio.Timeout
    ) -> DoorWord:
        word = await _said(reader)
        if self._reception is not None and isinstance(word, Look):
            return self._reception.about()
        if self._reception is None or not isinstance(word, Ask):
            if isinstance(word, Knock) and not word.secret and _shows_a_guest(writer):
                said = "a guest's time is not renewed; ask for another invite"
                return NotAdmitted(PeerError.code, said)
            return self._reply(word, shown(writer))
        try:
            challenge = self._reception.challenge(word)
            writer.write(wire.write(challenge))
            reveal = await read_word(reader)
            if not isinstance(reveal, Reveal):
                raise ProtocolError("the number that was committed to has to come now")
        except ManyhandsError as error:
            return self._refusal(word.peer, error)
        deciding = self._decided(word, self._reception.approved(word, challenge, reveal))
        limit.reschedule(None)  # a person has a deadline of its own, and can be left
        reply = await _while_there(reader, deciding)
        limit.reschedule(asyncio.get_running_loop().time() + self._deadline_s)
        return reply

    async def _decided(self, ask: Ask, approved: Coroutine[None, None, Admission]) -> DoorWord:
        try:
            return await approved
        except ManyhandsError as error:
            return self._refusal(ask.peer, error)

    def _reply(self, word: DoorWord, member: PeerId | None) -> DoorWord:
        if isinstance(word, NotAdmitted):
            return word
        if not isinstance(word, Knock):
            return NotAdmitted("protocol", "knock first")
        try:
            return self._decide(word, member)
        except ManyhandsError as error:
            return self._refusal(word.peer, error)

    def _refusal(self, peer: PeerId, error: ManyhandsError) -> NotAdmitted:
        self._warn(f"{short(peer)} was not let in: {error}")
        return NotAdmitted(error.code, str(error))

    def _warn(self, text: str) -> None:
        now_s = asyncio.get_running_loop().time()
        is_due = now_s >= self._warn_from_s
        if is_due:
            self._warn_from_s = now_s + WARN_EVERY_S
        log.log(logging.WARNING if is_due else logging.INFO, text)


async def _said(reader: asyncio.StreamReader) -> DoorWord:
    """What a stranger says; what is no word of ours is answered by saying so."""
    try:
        return await read_word(reader)
    except FrameError as error:
        log.info("no word of ours at the door: %s", error)
        return NotAdmitted(error.code, str(error))


async def read_word(reader: asyncio.StreamReader) -> DoorWord:
    """The next word. Raises FrameError, and IncompleteReadError when the other side has left."""
    (size,) = wire.LENGTH.unpack(await reader.readexactly(wire.LENGTH.size))
    return wire.read(await reader.readexactly(wire.checked(size)))


async def _while_there(
    reader: asyncio.StreamReader, deciding: Coroutine[None, None, DoorWord]
) -> DoorWord:
    """What is decided about one who waits. Raises ConnectionError when it leaves before."""
    async with asyncio.TaskGroup() as tasks:
        decided, left = tasks.create_task(deciding), tasks.create_task(_gone(reader))
        await asyncio.wait((decided, left), return_when=asyncio.FIRST_COMPLETED)
        for task in (decided, left):
            task.cancel()
    if decided.cancelled():
        raise ConnectionAbortedError("it did not wait for a person's word")
    return decided.result()


async def _gone(reader: asyncio.StreamReader) -> None:
    """Return when the other side leaves, or says what it should not."""
    with contextlib.suppress(OSError):
        await reader.read(1)


async def _leave(writer: asyncio.StreamWriter) -> None:
    """Close in order; how that goes is nobody's concern any more."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def shown(writer: asyncio.StreamWriter) -> PeerId | None:
    """The key that the other side proved; None when it showed none."""
    der = _certificate(writer)
    try:
        return peer_of(der) if der else None
    except ManyhandsError:
        return None


def _shows_a_guest(writer: asyncio.StreamWriter) -> bool:
    der = _certificate(writer)
    return der is not None and is_guest(der)  # TLS has seen that our CA signed it


def _certificate(writer: asyncio.StreamWriter) -> bytes | None:
    secured: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    return secured.getpeercert(binary_form=True) if secured is not None else None
