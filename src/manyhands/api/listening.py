"""Serves the application on a port, within the event loop that the peer runs on.

uvicorn runs the requests; signals, logging and the socket stay ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from manyhands.api.app import build_app
from manyhands.api.connections import IDLE_S, Connections, places_here
from manyhands.api.desk import Desk
from manyhands.api.serving import Serving
from manyhands.errors import UserError
from manyhands.net.accepting import bound

CLOSE_DEADLINE_S = 5.0
"""Open streams are told to end; what has not ended by then is cut."""

DRAIN_S = 2
"""Of these seconds, what uvicorn waits before it cancels requests (it wants whole ones)."""


async def bound_http(host: str = "127.0.0.1", port: int = 7700) -> socket.socket:
    """A socket for `serving_http`; who connects to it meanwhile waits. Close it, or pass it on.

    Port 0 is any free one. Raises UserError: an address that is not of this machine, a port that
    is taken.
    """
    try:
        return await bound(host, port)
    except UserError as error:
        raise UserError(f"HTTP cannot be served (--http-host, --http-port): {error}") from error


@contextlib.asynccontextmanager
async def serving_http(
    serving: Serving,
    host: str = "127.0.0.1",
    port: int = 7700,
    *,
    listening: socket.socket | None = None,
    places: int | None = None,
    idle_s: float = IDLE_S,
) -> AsyncIterator[str]:
    """Serve while the body runs; the value is the address to show, as `http://127.0.0.1:7700`.

    `listening` is what `bound_http` gave for this host, and closed in the end; without it `port`
    is bound now. `places` is how many connections there may be at a time, by default a share of
    this process's file handles. Raises UserError: what `check_access` and `bound_http` raise. It
    runs a TaskGroup, so what the body raises comes out in an ExceptionGroup.
    """
    with contextlib.ExitStack() as stack:
        if listening is not None:
            stack.enter_context(listening)
        app = build_app(serving, host)
        if listening is None:
            listening = stack.enter_context(await bound_http(host, port))
        desk: Desk = app.state.desk
        server = _Server(_config(app))
        connections = Connections(server, places or places_here(), idle_s)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.serve([]))
            try:
                await server.is_up.wait()
                stack.pop_all()  # the socket is Connections' from now on
                yield _url(host, connections.take(listening))
            finally:
                desk.closing.set()
                server.should_exit = True
                try:
                    await asyncio.wait((running,), timeout=CLOSE_DEADLINE_S)
                finally:
                    running.cancel()
                    await connections.close()


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # what went wrong is logged where it is known: Envelope, Connection
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=2 * int(IDLE_S),  # Connections' own is shorter
        timeout_graceful_shutdown=DRAIN_S,
    )


class _Server(uvicorn.Server):
    """Says when it listens, and leaves Ctrl-C to whoever started it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then tell."""
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def _url(host: str, port: int) -> str:
    """What to type on this machine."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name and "[" not in name else f"http://{name}:{port}"
