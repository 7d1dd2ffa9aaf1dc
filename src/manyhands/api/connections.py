"""HTTP connections: so many at a time, each closed when it asks nothing.

uvicorn's class reads and writes HTTP; which connections there are is decided here. Its own timer
starts only after a first answer, and its own limit refuses requests, not connections: strangers
who say nothing could use up every file handle of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from manyhands.api.refusals import Refusal, closing_refusal
from manyhands.net.accepting import Accepting

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 512
LEAST_CONNECTIONS = 16

SHARE_OF_HANDLES = 4
"""One of so many file handles may be an HTTP connection: peers, door and files need theirs."""

IDLE_S = 30.0
"""A connection that asks nothing for this long is closed, whatever it has said by halves."""

FAREWELL_S = 5.0
"""What was said last may take so long to go out; then the connection is dropped."""


class Connection(H11Protocol):
    """One connection. `quiet_since_s` is when its last answer ended, or it began."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.is_gone = asyncio.Event()
        self.quiet_since_s = self.loop.time()

    @property
    def is_quiet(self) -> bool:
        """True while no request is at work."""
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn declares
        return cycle is None or cycle.response_complete or self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's, then tell."""
        super().connection_lost(exc)
        self.is_gone.set()

    def on_response_complete(self) -> None:
        """As uvicorn's; the time counts from here."""
        self.quiet_since_s = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the form of every error."""
        log.info("what came from %s is no HTTP", self.client)
        self._refuse(Refusal(400, f"this is no HTTP request: {msg}"))

    def shutdown(self) -> None:
        """As uvicorn's, but a request of which half has come is not waited for."""
        cycle: Any = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_started:
            self._refuse(closing_refusal())
        else:
            super().shutdown()

    async def watched(self, idle_s: float) -> None:
        """Return once it is gone, or dropped for asking nothing for `idle_s`."""
        while True:
            left_s = self.quiet_since_s + idle_s - self.loop.time() if self.is_quiet else idle_s
            if left_s <= 0:
                break
            if await self._goes_within(left_s):
                return
        self.transport.close()
        await self._goes_within(FAREWELL_S)

    async def _goes_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self.is_gone.wait()
        return False

    def _refuse(self, refusal: Refusal) -> None:
        body = refusal.text().encode("ascii")
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        told = (h11.Response(status_code=refusal.status, headers=headers), h11.Data(data=body))
        with contextlib.suppress(h11.LocalProtocolError):  # an answer is on its way already
            for event in (*told, h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Connections:
    """Those of one server, `places` at most; whoever comes then waits in the kernel.

    Whenever all places are taken, the connection that has been quiet for longest is dropped for the
    next one: only requests at work keep others out.
    """

    def __init__(self, server: uvicorn.Server, places: int, idle_s: float = IDLE_S) -> None:
        self._server, self._places, self._idle_s = server, places, idle_s
        self._open: set[Connection] = set()
        # a proxy has one address for everybody, and who is silent is seen to here
        self._accepting = Accepting(self._greet, places, first_byte_s=None, origin=lambda _: None)

    def take(self, listening: socket.socket) -> int:
        """Take connections of this socket from now on, and own it; the port."""
        return self._accepting.take(listening)

    async def close(self) -> None:
        """Take no more; drop those that are left."""
        self._accepting.stop()
        await self._accepting.stopped()

    async def _greet(self, client: socket.socket) -> None:
        if self._server.should_exit:
            client.close()
            return
        try:
            _, connection = await asyncio.get_running_loop().connect_accepted_socket(
                self._made, client
            )
        except OSError as error:
            log.info("a client left at once: %s", error)
            return
        self._open.add(connection)
        if len(self._open) >= self._places:
            self._drop_one(connection)
        try:
            await connection.watched(self._idle_s)
        finally:
            connection.transport.abort()
            self._open.discard(connection)

    def _made(self) -> Connection:
        return Connection(
            config=self._server.config, server_state=self._server.server_state, app_state={}
        )

    def _drop_one(self, newest: Connection) -> None:
        quiet = [one for one in self._open if one.is_quiet and one is not newest]
        if quiet:
            min(quiet, key=lambda one: one.quiet_since_s).transport.abort()


def places_here() -> int:
    """Connections that the file handles of this process allow; HTTP takes a share of them."""
    if os.name != "posix":
        return MOST_CONNECTIONS
    resource: Any = importlib.import_module("resource")  # Windows has none
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    share = MOST_CONNECTIONS if handles == resource.RLIM_INFINITY else handles // SHARE_OF_HANDLES
    return max(LEAST_CONNECTIONS, min(MOST_CONNECTIONS, share))
