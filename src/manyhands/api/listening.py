"""Serves the application on a port, within the event loop that the peer runs on.

uvicorn speaks HTTP; signals, logging and the socket stay ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from manyhands.api.app import build_app
from manyhands.api.desk import Desk
from manyhands.api.serving import Serving
from manyhands.errors import UserError

CLOSE_DEADLINE_S = 5.0
"""Open streams are told to end; what has not ended by then is cut."""

DRAIN_S = 2
"""Of these seconds, what uvicorn waits before it cancels requests (it wants whole ones)."""

MOST_CONNECTIONS = 512
IDLE_S = 30
"""A connection without a request is closed after this long."""


@contextlib.asynccontextmanager
async def serving_http(
    serving: Serving, host: str = "127.0.0.1", port: int = 7700
) -> AsyncIterator[str]:
    """Serve while the body runs; the value is the address to show, as `http://127.0.0.1:7700`.

    Port 0 is any free one. Raises UserError: no key though others can reach `host`, an address
    that is not of this machine, a port that is taken. It runs a TaskGroup, so what the body raises
    comes out in an ExceptionGroup.
    """
    app = build_app(serving, host)
    desk: Desk = app.state.desk
    with contextlib.closing(_bound(host, port)) as bound:
        server = _Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.serve([bound]))
            try:
                await server.is_up.wait()
                yield _url(host, bound.getsockname()[1])
            finally:
                desk.closing.set()
                server.should_exit = True
                await asyncio.wait((running,), timeout=CLOSE_DEADLINE_S)
                running.cancel()


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


def _bound(host: str, port: int) -> socket.socket:
    """A socket on the first address of `host`. Raises UserError."""
    if not 0 <= port < 65536:
        raise UserError(f"there is no port {port}; give one from 0 (any free one) to 65535")
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"cannot serve on {host!r}: {error}; give a name or address of this machine"
        ) from error
    try:
        if os.name == "posix":  # elsewhere it would let two programs share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise UserError(_why_not(host, port, error)) from error
    return bound


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken by another program; give --port with another number, "
            "or 0 for any free one"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} on {host} may not be taken by this user; give one of 1024 or more"
    return f"cannot serve on {host}, port {port}: {error}; give an address of this machine"


def _url(host: str, port: int) -> str:
    """What to type on this machine."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name and "[" not in name else f"http://{name}:{port}"
