"""Links between processes and machines: TCP with mutual TLS, both sides members of one swarm.

Addresses read `tcp:HOST:PORT`, IPv6 hosts in brackets, several with commas between. Knows nothing
of messages. Whoever cannot prove membership, or does not say anything, never gets as far as
`accept`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from manyhands.domain.ids import PeerId, short
from manyhands.errors import PeerError, PeerLost, UserError
from manyhands.net.accepting import Accepting
from manyhands.net.racing import quickest
from manyhands.net.tcp_connection import TcpConnection
from manyhands.net.tls import Contexts
from manyhands.net.transport import Accept
from manyhands.trust.certificate import Membership, check, expires_s

log = logging.getLogger(__name__)

HANDSHAKES = 128
"""So many clients may be proving who they are at a time; further ones wait in the kernel."""

_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]{1,253})):([0-9]{1,5})", re.ASCII)
MOST_PLACES = 6
"""One peer may be reached by so many addresses: one in each network it is in."""

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (known in order to be asked about)


def write_address(host: str, port: int, *more: tuple[str, int]) -> str:
    """`tcp:HOST:PORT`, or `tcp:HOST:PORT,HOST:PORT`; what `read_places` reads."""
    places = ((host, port), *more)
    said = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places)
    return f"tcp:{','.join(said)}"


def read_address(address: str) -> tuple[str, int]:
    """The first host and port. Raises UserError for anything else than `write_address` writes."""
    return read_places(address)[0]


def read_places(address: str) -> tuple[tuple[str, int], ...]:
    """All hosts and ports. Raises UserError for anything else than `write_address` writes."""
    scheme, _, said = address.partition(":")
    places = said.split(",")
    found = [_PLACE.fullmatch(place) for place in places[:MOST_PLACES]]
    read = tuple((one[1] or one[2], int(one[3])) for one in found if one is not None)
    is_good = scheme == "tcp" and len(read) == len(places)
    if not is_good or not all(0 < port < 1 << 16 for _, port in read):
        raise UserError(
            f"{address[:80]!r} is no address; write tcp:HOST:PORT, or tcp:[HOST]:PORT for IPv6"
        )
    return read


class TcpTransport:
    """One peer's way to others. Use within one event loop, and `close` it in the end.

    It listens at `host` and `port` (0: a free one); `public_host` and `public_port` are what others
    dial, where those are others (a router forwards them), and `more_hosts` are tried besides.
    `deadline_s` is for dialling, proving who one is, and saying farewell, each.
    """

    def __init__(
        self,
        membership: Membership,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        public_host: str | None = None,
        public_port: int | None = None,
        more_hosts: tuple[str, ...] = (),
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
        if public_port is not None and not 0 < public_port < 1 << 16:
            raise UserError(f"public port is {public_port}; it must be in [1, 65535]")
        self._contexts = Contexts(membership)
        self._host, self._port, self._public_port = host, port, public_port
        self._hosts = (public_host or host, *more_hosts)[:MOST_PLACES]
        self._deadline_s, self._wall_clock = deadline_s, wall_clock
        self._accepting: Accepting | None = None
        self._connections: set[TcpConnection] = set()
        self._expiries: dict[TcpConnection, asyncio.TimerHandle] = {}
        self._is_closed = False

    def renew(self, membership: Membership) -> None:
        """Show a newer certificate on connections from now on. Raises UserError; see Contexts."""
        self._contexts.renew(membership)

    async def listen(self, accept: Accept) -> str:
        """Take connections; see Transport. Raises UserError also for a membership out of date."""
        if self._accepting is not None or self._is_closed:
            state = "closed" if self._is_closed else "listening already"
            raise UserError(f"this transport is {state}; make another one")
        membership = self._contexts.membership
        try:
            check(membership.certificate_der, membership.swarm, self._wall_clock())
        except PeerError as error:
            raise UserError(f"nobody would let us in: {error}") from error
        accepting = Accepting(lambda client: self._prove(client, accept), HANDSHAKES)
        port = await accepting.open(self._host, self._port)
        self._accepting = accepting
        more = ((host, port) for host in self._hosts[1:])
        return write_address(self._hosts[0], self._public_port or port, *more)

    async def dial(self, address: str, peer: PeerId) -> TcpConnection:
        """Connect to `peer`; see Transport.

        A peer that does not accept *us* says so after TLS 1.3 has told us that all is well: then
        this returns, nothing arrives there, and `receive` raises PeerLost.
        """
        try:
            ways = [functools.partial(self._way, peer, *place) for place in read_places(address)]
            async with asyncio.timeout(self._deadline_s):
                transport, connection = await quickest(
                    ways, (OSError, UnicodeError, PeerLost), lambda late: late[0].abort()
                )
        except TimeoutError as error:
            raise PeerLost(
                f"{short(peer)} did not answer at {address} within {self._deadline_s} s"
            ) from error
        except (OSError, UnicodeError, UserError) as error:  # TLS's are OSErrors, names may be odd
            raise PeerLost(f"{short(peer)} cannot be reached at {address[:80]}: {error}") from error
        self._end_in_time(transport, connection)
        return connection

    async def _way(
        self, peer: PeerId, host: str, port: int
    ) -> tuple[asyncio.Transport, TcpConnection]:
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: TcpConnection(self._changed, peer),
            host,
            port,
            ssl=self._contexts.client,
            server_hostname="",
            ssl_handshake_timeout=self._deadline_s,
            ssl_shutdown_timeout=self._deadline_s,
        )
        if connection.is_over:
            raise PeerLost(f"the connection to {write_address(host, port)} {connection.reason}")
        return transport, connection

    async def close(self) -> None:
        """Stop listening, send what is queued, close; after `deadline_s` drop what is left."""
        self._is_closed = True
        if self._accepting is not None:
            self._accepting.stop()
            await self._accepting.stopped()
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
        if self._accepting is not None:
            self._accepting.stop()
        for connection in tuple(self._connections):
            connection.abort()

    async def _prove(self, client: socket.socket, accept: Accept) -> None:
        """Have one client prove who it is; only then anybody hears of it."""
        try:
            transport, connection = await asyncio.get_running_loop().connect_accepted_socket(
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
            self._end_in_time(transport, connection)
            accept(connection)

    def _end_in_time(self, transport: asyncio.BaseTransport, connection: TcpConnection) -> None:
        """Close when the certificate that the other side showed ends; TLS asks but once.

        A member shows its renewed one when it connects again.
        """
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if connection.is_gone.is_set() or not shown:
            return
        left_s = max(0.0, expires_s(shown) - self._wall_clock())
        later = asyncio.get_running_loop().call_later(left_s, self._expire, connection)
        self._expiries[connection] = later

    def _expire(self, connection: TcpConnection) -> None:
        log.info("the membership that %s showed has ended", short(connection.remote))
        connection.close()

    def _changed(self, connection: TcpConnection) -> None:
        """A connection was made, or is gone."""
        if connection.is_gone.is_set():
            self._connections.discard(connection)
            if connection in self._expiries:
                self._expiries.pop(connection).cancel()
            return
        self._connections.add(connection)
        if self._is_closed:
            connection.abort()
