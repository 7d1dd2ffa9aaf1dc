"""A swarm's door: where the invited become members, and members renew what they show.

A port of its own beside the one for peers, so that strangers never reach the latter. Whoever knocks
knows the door's key from the invite, and shows its secret only to that key; a member shows its
certificate. One question and one answer a connection, all of it within one deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

from manyhands.domain.admission import Admission, DoorWord, Knock, NotAdmitted
from manyhands.domain.ids import PeerId, short
from manyhands.errors import (
    DeadlinePassed,
    FrameError,
    ManyhandsError,
    PeerError,
    PeerLied,
    PeerLost,
    UserError,
    from_code,
)
from manyhands.net.accepting import Accepting
from manyhands.net.tls import Contexts, stranger
from manyhands.trust.certificate import Membership, peer_of
from manyhands.wire import door as wire

log = logging.getLogger(__name__)

Decide = Callable[[Knock, PeerId | None], Admission]
"""(who knocks, which member its certificate shows or None) -> admission; raises what refuses it."""

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
    ) -> None:
        self._contexts, self._host, self._port = contexts, host, port
        self._decide, self._deadline_s = decide, deadline_s
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
            async with asyncio.timeout(self._deadline_s):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    client,
                    ssl=self._contexts.door,
                    ssl_handshake_timeout=self._deadline_s,
                    ssl_shutdown_timeout=FAREWELL_S,
                )
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                try:
                    writer.write(wire.write(self._reply(await _said(reader), _shown(writer))))
                    await writer.drain()
                    await _leave(writer)
                finally:
                    transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("somebody at the door left without an answer: %s", error)

    def _reply(self, word: DoorWord, member: PeerId | None) -> DoorWord:
        if isinstance(word, NotAdmitted):
            return word
        if not isinstance(word, Knock):
            return NotAdmitted("protocol", "knock first")
        try:
            return self._decide(word, member)
        except ManyhandsError as error:
            self._warn(f"{short(word.peer)} was not let in: {error}")
            return NotAdmitted(error.code, str(error))

    def _warn(self, text: str) -> None:
        now_s = asyncio.get_running_loop().time()
        is_due = now_s >= self._warn_from_s
        if is_due:
            self._warn_from_s = now_s + WARN_EVERY_S
        log.log(logging.WARNING if is_due else logging.INFO, text)


_NO_DOOR = (
    "{}:{} answers, but is no door of a swarm; of its three ports (HTTP, peers, door) take the one "
    "in the line that `hands run` printed"
)


async def knock(
    host: str,
    port: int,
    make: Callable[[PeerId], Knock],
    *,
    deadline_s: float,
    membership: Membership | None = None,
) -> tuple[Admission, str]:
    """Ask to be let in at a door: what it gave, and by which address of ours the way there went.

    `make` is given the key that answered before anything is said, and raises to leave (the key
    is not the one of the invite). A member shows its `membership`.
    Raises PeerLost (nobody there), DeadlinePassed, PeerLied (the answer fits no door of ours),
    PeerError (another swarm's door) and the door's own refusal.
    """
    context = stranger() if membership is None else Contexts(membership).client
    try:
        async with asyncio.timeout(deadline_s):
            word, own_host = await _ask(host, port, context, make)
    except TimeoutError as error:
        raise DeadlinePassed(
            f"nobody answered at {host}:{port} within {deadline_s} s; is that address right, and "
            "is a firewall in between?"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise PeerError(
            f"whoever answers at {host}:{port} is not of the swarm that let us in there before "
            f"({error.verify_message}); if it was founded anew, ask for an invite"
        ) from error
    except ssl.SSLError as error:
        raise PeerLost(f"{_NO_DOOR.format(host, port)} ({error.reason or error})") from error
    except asyncio.IncompleteReadError as error:
        raise PeerLost(_NO_DOOR.format(host, port)) from error
    except (OSError, UnicodeError) as error:
        raise PeerLost(
            f"nobody opened at {host}:{port} ({error}); see that the swarm runs there, and that "
            "this is the address it printed"
        ) from error
    return _admitted(word), own_host


async def _ask(
    host: str, port: int, context: ssl.SSLContext, make: Callable[[PeerId], Knock]
) -> tuple[DoorWord, str]:
    reader, writer = await asyncio.open_connection(
        host, port, ssl=context, server_hostname="", ssl_shutdown_timeout=FAREWELL_S
    )
    try:
        answered = _shown(writer)
        if answered is None:
            raise PeerLied(f"whoever listens at {host}:{port} shows no key of a peer")
        writer.write(wire.write(make(answered)))
        word = await _read(reader)
        own_host: str = writer.get_extra_info("sockname")[0]
    finally:
        writer.transport.abort()
    return word, own_host


def _admitted(word: DoorWord) -> Admission:
    match word:
        case Admission():
            return word
        case NotAdmitted(code, message):
            raise from_code(code, f"not let in: {message}")
        case Knock():
            raise PeerLied("the door knocked back; it is no door of ours")


async def _said(reader: asyncio.StreamReader) -> DoorWord:
    """What a stranger says; what is no word of ours is answered by saying so."""
    try:
        return await _read(reader)
    except FrameError as error:
        log.info("no word of ours at the door: %s", error)
        return NotAdmitted(error.code, str(error))


async def _read(reader: asyncio.StreamReader) -> DoorWord:
    (size,) = wire.LENGTH.unpack(await reader.readexactly(wire.LENGTH.size))
    return wire.read(await reader.readexactly(wire.checked(size)))


async def _leave(writer: asyncio.StreamWriter) -> None:
    """Close in order; how that goes is nobody's concern any more."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _shown(writer: asyncio.StreamWriter) -> PeerId | None:
    """The key that the other side proved; None when it showed none."""
    secured: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    der = secured.getpeercert(binary_form=True) if secured is not None else None
    try:
        return peer_of(der) if der else None
    except ManyhandsError:
        return None
