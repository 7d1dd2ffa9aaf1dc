"""Goes to a swarm's door: knocks with an invite or a membership, asks to be approved, or looks.

Nothing but a look is said before the key that answers is known. The other side is `net/door`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
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
from manyhands.domain.ids import PeerId
from manyhands.errors import DeadlinePassed, PeerError, PeerLied, PeerLost, from_code
from manyhands.net.door import FAREWELL_S, read_word, shown
from manyhands.net.tls import Contexts, stranger
from manyhands.trust.certificate import Membership
from manyhands.wire import door as wire

_NO_DOOR = (
    "{}:{} answers, but is no door of a swarm; of its three ports (HTTP, peers, door) take the one "
    "in the line that `hands run` printed"
)
_CLOCK_CODES = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


class Asking(Protocol):
    """What one says that asks to be approved."""

    def ask(self, door: PeerId) -> Ask:
        """To the key that answered."""

    def reveal(self, challenge: Challenge) -> Reveal:
        """To the door's number; from now on the code is on the screen."""


@dataclass(slots=True)
class _Line:
    """An open connection to a door, and the key that answered there."""

    door: PeerId
    own_host: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    limit: asyncio.Timeout

    async def said(self, word: DoorWord) -> DoorWord:
        """The answer to one word."""
        self.writer.write(wire.write(word))
        return await read_word(self.reader)


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
    PeerError (another swarm's door, a clock that is wrong) and the door's own refusal.
    """
    context = stranger() if membership is None else Contexts(membership).client
    async with _line(host, port, context, deadline_s) as line:
        word = await line.said(make(line.door))
    return _admitted(word), line.own_host


async def ask(
    host: str, port: int, asking: Asking, *, deadline_s: float, wait_s: float
) -> tuple[Admission, str]:
    """As `knock` without an invite: a person there has `wait_s` to approve us.

    Raises what `knock` raises.
    """
    async with _line(host, port, stranger(), deadline_s) as line:
        challenge = await line.said(asking.ask(line.door))
        if not isinstance(challenge, Challenge):
            _admitted(challenge)
            raise PeerLied("the door let us in before anybody could compare codes")
        line.limit.reschedule(asyncio.get_running_loop().time() + wait_s + deadline_s)
        revealed = asking.reveal(challenge)
        try:
            word = await line.said(revealed)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise PeerLost(
                f"the door at {host}:{port} went away before anybody approved; is the swarm still "
                "running there?"
            ) from error
    return _admitted(word), line.own_host


async def look(host: str, port: int, *, deadline_s: float) -> tuple[About, PeerId]:
    """Whose door this is, as it says itself, and its key. Raises what `knock` raises."""
    async with _line(host, port, stranger(), deadline_s) as line:
        word = await line.said(Look(0, ""))
    if not isinstance(word, About):
        _admitted(word)
        raise PeerLied(_NO_DOOR.format(host, port))
    return word, line.door


@contextlib.asynccontextmanager
async def _line(
    host: str, port: int, context: ssl.SSLContext, deadline_s: float
) -> AsyncIterator[_Line]:
    """A connection for one conversation; whatever ends it is said in errors of ours."""
    try:
        async with asyncio.timeout(deadline_s) as limit:
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname="", ssl_shutdown_timeout=FAREWELL_S
            )
            try:
                door = shown(writer)
                if door is None:
                    raise PeerLied(f"whoever listens at {host}:{port} shows no key of a peer")
                own_host: str = writer.get_extra_info("sockname")[0]
                yield _Line(door, own_host, reader, writer, limit)
            finally:
                writer.transport.abort()
    except TimeoutError as error:
        raise DeadlinePassed(
            f"nobody answered at {host}:{port} within {deadline_s} s; is that address right, and "
            "is a firewall in between?"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise PeerError(_not_believed(host, port, error)) from error
    except ssl.SSLError as error:
        raise PeerLost(f"{_NO_DOOR.format(host, port)} ({error.reason or error})") from error
    except asyncio.IncompleteReadError as error:
        raise PeerLost(_NO_DOOR.format(host, port)) from error
    except (OSError, UnicodeError) as error:
        raise PeerLost(
            f"nobody opened at {host}:{port} ({error}); see that the swarm runs there, and that "
            "this is the address it printed"
        ) from error


def _not_believed(host: str, port: int, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _CLOCK_CODES:
        return (
            f"by this machine's clock the certificate that {host}:{port} shows does not count now "
            f"({error.verify_message}); set the clocks of both machines: `hands doctor` compares "
            "them"
        )
    return (
        f"whoever answers at {host}:{port} is not of the swarm that let us in there before "
        f"({error.verify_message}); if it was founded anew, ask for an invite"
    )


def _admitted(word: DoorWord) -> Admission:
    match word:
        case Admission():
            return word
        case NotAdmitted(code, message):
            raise from_code(code, f"not let in: {message}")
        case _:
            raise PeerLied("the door answers as no door of ours does")
