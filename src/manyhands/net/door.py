"""A swarm's door: where the invited become members, and members renew what they show.

A port of its own beside the one for peers, so that strangers never reach the latter. Whoever knocks
knows the door's key from the invite, and shows its secret only to that key; a member shows its
certificate. One question and one answer a connection, each with a deadline.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable

from manyhands.domain.admission import Admission, DoorWord, Knock, NotAdmitted
from manyhands.domain.ids import PeerId
from manyhands.errors import (
    DeadlinePassed,
    FrameError,
    ManyhandsError,
    PeerLied,
    PeerLost,
    UserError,
    from_code,
)
from manyhands.net.tls import Contexts, stranger
from manyhands.trust.certificate import Membership, peer_of
from manyhands.wire import door as wire

log = logging.getLogger(__name__)

Decide = Callable[[Knock, PeerId | None], Admission]
"""(who knocks, which member its certificate shows or None) -> admission; raises what refuses it."""

MOST_AT_ONCE = 32
"""So many may be at the door at a time; others wait until their own deadline."""


class Door:
    """Listens at `host` and `port` (0: a free one) with `contexts`' own certificate."""

    def __init__(
        self, contexts: Contexts, host: str, port: int, decide: Decide, deadline_s: float
    ) -> None:
        self._contexts, self._host, self._port = contexts, host, port
        self._decide, self._deadline_s = decide, deadline_s
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Take knocks from now on; the port. Raises UserError when it is taken."""
        try:
            self._server = await asyncio.start_server(
                self._answer,
                self._host,
                self._port,
                ssl=self._contexts.door,
                ssl_handshake_timeout=self._deadline_s,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"port {self._port} of {self._host} is taken (for the door that newcomers "
                    "knock at); choose another one, or 0 for any free one"
                ) from error
            raise UserError(f"cannot open a door at {self._host}: {error}") from error
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Take no more knocks; who stands at the door is let go by its deadline."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._deadline_s), self._places:
                word = await _read(reader)
                writer.write(wire.write(self._reply(word, _shown(writer))))
                await writer.drain()
        except (OSError, TimeoutError, FrameError, asyncio.IncompleteReadError) as error:
            log.info("somebody at the door left without a word: %s", error)
        finally:
            writer.close()

    def _reply(self, word: DoorWord, member: PeerId | None) -> DoorWord:
        if not isinstance(word, Knock):
            return NotAdmitted("protocol", "knock first")
        try:
            return self._decide(word, member)
        except ManyhandsError as error:
            log.warning("%s was not let in: %s", word.peer[:8], error)
            return NotAdmitted(error.code, str(error))


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
    Raises PeerLost (nobody there), DeadlinePassed, PeerLied (the answer fits no door of ours) and
    the door's own refusal.
    """
    context = stranger() if membership is None else Contexts(membership).client
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=""
            )
            try:
                answered = _shown(writer)
                if answered is None:
                    raise PeerLied(f"whoever listens at {host}:{port} shows no key")
                writer.write(wire.write(make(answered)))
                word = await _read(reader)
                own_host: str = writer.get_extra_info("sockname")[0]
            finally:
                writer.close()
    except TimeoutError as error:
        raise DeadlinePassed(
            f"nobody answered at {host}:{port} within {deadline_s} s; is that address right, and "
            "is a firewall in between?"
        ) from error
    except ssl.SSLError as error:
        raise PeerLost(f"{host}:{port} is no door of a swarm: {error.reason or error}") from error
    except (OSError, asyncio.IncompleteReadError) as error:
        raise PeerLost(
            f"nobody opened at {host}:{port} ({error}); see that the swarm runs there, and that "
            "this is the address it printed"
        ) from error
    return _admitted(word), own_host


def _admitted(word: DoorWord) -> Admission:
    match word:
        case Admission():
            return word
        case NotAdmitted(code, message):
            raise from_code(code, f"not let in: {message}")
        case Knock():
            raise PeerLied("the door knocked back; it is no door of ours")


async def _read(reader: asyncio.StreamReader) -> DoorWord:
    (size,) = wire.LENGTH.unpack(await reader.readexactly(wire.LENGTH.size))
    return wire.read(await reader.readexactly(wire.checked(size)))


def _shown(writer: asyncio.StreamWriter) -> PeerId | None:
    """The key that the other side proved; None when it showed none."""
    secured: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    der = secured.getpeercert(binary_form=True) if secured is not None else None
    try:
        return peer_of(der) if der else None
    except ManyhandsError:
        return None
