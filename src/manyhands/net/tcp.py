"""Links between processes and machines: TCP with mutual TLS, both sides members of one swarm.

Addresses read `tcp:HOST:PORT`, IPv6 hosts in brackets. Knows nothing of messages. Whoever cannot
prove membership, or does not say anything, never gets as far as `accept`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from manyhands.domain.ids import PeerId, short
from manyhands.errors import PeerError, PeerLost, UserError
from manyhands.net.tcp_connection import TcpConnection
from manyhands.net.tls import Contexts
from manyhands.net.transport import Accept
from manyhands.trust.certificate import Membership, check

log = logging.getLogger(__name__)

HANDSHAKES = 128
"""So many clients may be proving who they are at a time; further ones wait in the kernel."""

ACCEPT_AGAIN_S = 1.0
"""After the system refused a connection, for want of file handles usually."""

_ADDRESS = re.compile(
    r"tcp:(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]{1,253})):([0-9]{1,5})", re.ASCII
)
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (known in order to be asked about)


def write_address(host: str, port: int) -> str:
    """`tcp:HOST:PORT`; what `read_address` reads."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def read_address(address: str) -> tuple[str, int]:
    """Host and port. Raises UserError for anything else than `tcp:HOST:PORT`."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[3]) < 1 << 16:
        raise UserError(
            f"{address[:80]!r} is no address; write tcp:HOST:PORT, or tcp:[HOST]:PORT for IPv6"
        )
    return found[1] or found[2], int(found[3])


class TcpTransport:
    """One peer's way to others. Use within one event loop, and `close` it in the end.

    It listens at `host` and `port` (0: a free one); `public_host` is what others dial, where that
    is another one. `deadline_s` is for dialling, proving who one is, and saying farewell, each.
    """

    def __init__(
        self,
        membership: Membership,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        public_host: str | None = None,
        deadline_s: float = 5.0,
        wall_clock: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
    ) -> None:
        if public_host is None and host in _EVERYWHERE:
            raise UserError(
                f"others cannot dial host {host!r}; say as well by which name or address they "
                f"reach this machine (public_host)"
            )
        if not 0 <= port < 1 << 16:
            raise UserError(f"port is {port}; it must be in [1, 65535], or 0 for any free one")
        self._contexts = Contexts(membership)
        self._host, self._port = host, port
        self._public_host = public_host or host
        self._deadline_s, self._wall_clock = deadline_s, wall_clock
        self._listening: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self._connections: set[TcpConnection] = set()
        self._is_closed = False

    def renew(self, membership: Membership) -> None:
        """Show a newer certificate on connections from now on. Raises UserError; see Contexts."""
        self._contexts.renew(membership)

    async def listen(self, accept: Accept) -> str:
        """Take connections; see Transport. Raises UserError also for a membership out of date."""
        if self._listening is not None or self._is_closed:
            state = "closed" if self._is_closed else "listening already"
            raise UserError(f"this transport is {state}; make another one")
        membership = self._contexts.membership
        try:
            check(membership.certificate_der, membership.swarm, self._wall_clock())
        except PeerError as error:
            raise UserError(f"nobody would let us in: {error}") from error
        listening = await self._bind()
        self._listening = listening
        # Owned by this transport: `close` and `abort` end it, and with it its group of handshakes.
        loop = asyncio.get_running_loop()
        self._serving = loop.create_task(self._serve(listening, accept), name="tcp-accept")
        self._serving.add_done_callback(lambda _: listening.close())
        return write_address(self._public_host, listening.getsockname()[1])

    async def dial(self, address: str, peer: PeerId) -> TcpConnection:
        """Connect to `peer`; see Transport.

        A peer that does not accept *us* says so after TLS 1.3 has told us that all is well: then
        this returns, nothing arrives there, and `receive` raises PeerLost.
        """
        try:
            host, port = read_address(address)
            async with asyncio.timeout(self._deadline_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: TcpConnection(self._changed, peer),
                    host,
                    port,
                    ssl=self._contexts.client,
                    server_hostname="",
                    ssl_handshake_timeout=self._deadline_s,
                    ssl_shutdown_timeout=self._deadline_s,
                )
        except TimeoutError as error:
            raise PeerLost(
                f"{short(peer)} did not answer at {address} within {self._deadline_s} s"
            ) from error
        except (OSError, UnicodeError, UserError) as error:  # TLS's are OSErrors, names may be odd
            raise PeerLost(f"{short(peer)} cannot be reached at {address[:80]}: {error}") from error
        if connection.is_over:
            raise PeerLost(f"the connection to {address} {connection.reason}")
        return connection

    async def close(self) -> None:
        """Stop listening, send what is queued, close; after `deadline_s` drop what is left."""
        self._is_closed = True
        self._stop_listening()
        if self._serving is not None:
            await asyncio.wait([self._serving])
        connections = tuple(self._connections)
        for connection in connections:
            connection.close()
        try:
            async with asyncio.timeout(self._deadline_s):
                for connection in connections:
                    await connection.is_gone.wait()
        except TimeoutError:
            log.info("%d connections did not end in time", len(self._connections))
        self.abort()
        for connection in connections:
            await connection.is_gone.wait()

    def abort(self) -> None:
        """End everything at once, as the process's end would; nobody is told why."""
        self._is_closed = True
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.abort()

    def _stop_listening(self) -> None:
        """End `_serve` in the next turn of the loop.

        Not by cancelling alone: asyncio's `sock_accept` then loses a client that comes in the same
        turn, its socket stays open, and an error is logged. So first nothing may come any more,
        then what has come is taken, then it is cancelled. (Windows' loop needs none of this.)
        """
        if self._serving is None or self._listening is None or self._serving.done():
            return
        loop, listening, serving = asyncio.get_running_loop(), self._listening, self._serving

        def cancel() -> None:
            if serving.done():
                return
            with contextlib.suppress(NotImplementedError):
                loop.remove_reader(listening)
            serving.cancel()

        with contextlib.suppress(NotImplementedError):
            loop.remove_reader(listening)
        loop.call_soon(cancel)

    async def _bind(self) -> socket.socket:
        loop, host, port = asyncio.get_running_loop(), self._host, self._port
        try:
            found = await loop.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, *_, place = found[0]
            listening = socket.create_server(place[:2], family=family)
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"port {port} of {host} is taken; choose another one, or 0 for any free one"
                ) from error
            raise UserError(
                f"cannot listen at {host!r}, port {port}: {error}; try host 127.0.0.1 for this "
                f"machine only, or an address of this machine, and port 0 for any free one"
            ) from error
        listening.setblocking(False)
        return listening

    async def _serve(self, listening: socket.socket, accept: Accept) -> None:
        """Take clients until cancelled. Our own loop, so that handshakes are bounded and owned."""
        loop = asyncio.get_running_loop()
        places = asyncio.Semaphore(HANDSHAKES)
        async with asyncio.TaskGroup() as handshakes:
            while True:
                await places.acquire()
                try:
                    client, _ = await loop.sock_accept(listening)
                except OSError as error:
                    places.release()
                    log.warning("cannot take a connection now: %s", error)
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                proving = handshakes.create_task(self._prove(client, accept))
                proving.add_done_callback(lambda _: places.release())

    async def _prove(self, client: socket.socket, accept: Accept) -> None:
        """Have one client prove who it is; only then anybody hears of it."""
        try:
            _, connection = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: TcpConnection(self._changed, None),
                client,
                ssl=self._contexts.server,
                ssl_handshake_timeout=self._deadline_s,
                ssl_shutdown_timeout=self._deadline_s,
            )
        except OSError as error:  # of TLS as well
            log.info("a client was not let in: %s", error)
            return
        if connection.is_made:
            accept(connection)

    def _changed(self, connection: TcpConnection) -> None:
        """A connection was made, or is gone."""
        if connection.is_gone.is_set():
            self._connections.discard(connection)
            return
        self._connections.add(connection)
        if self._is_closed:
            connection.abort()
