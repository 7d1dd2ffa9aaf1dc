"""Takes TCP connections at a port: so many at a time, each greeted by a task that is owned here.

Whoever is over the number waits in the kernel, so that strangers cannot use up file handles; no one
address takes all the places, and who connects has to speak at once. Knows nothing of TLS or of what
is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from manyhands.errors import UserError

log = logging.getLogger(__name__)

ACCEPT_AGAIN_S = 1.0
"""After the system refused a connection, for want of file handles usually."""

FIRST_BYTE_S = 2.0
"""Who connects speaks first, in TLS too; who has not said a byte by then is sent away."""

SHARE = 8
"""One remote address may take one place in so many; this machine itself may take all."""

Greet = Callable[[socket.socket], Coroutine[Any, Any, None]]
"""Owns the socket from then on; a place is free again when it returns."""


def origin(host: str) -> str | None:
    """Whose places a client at address `host` takes; None for this machine, which is not counted.

    Of IPv6 it is the network: whoever has one address there has all of them.
    """
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            network = ipaddress.ip_network((int(address) >> 64 << 64, 64))
            return None if address.is_loopback else str(network)
        address = address.ipv4_mapped
    return None if address.is_loopback else str(address)


class Accepting:
    """Use within one event loop: `open`, and in the end `stop`, which ends greetings as well.

    With `first_byte_s` None clients are greeted before they have spoken.
    """

    def __init__(
        self,
        greet: Greet,
        places: int,
        *,
        first_byte_s: float | None = FIRST_BYTE_S,
        origin: Callable[[str], str | None] = origin,
    ) -> None:
        self._greet, self._places, self._first_byte_s = greet, places, first_byte_s
        self._origin = origin
        self._taken: Counter[str] = Counter()
        self._listening: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> int:
        """Take connections from now on; the port. Raises UserError when that cannot be."""
        return self.take(await bound(host, port))

    def take(self, listening: socket.socket) -> int:
        """Take connections of a socket that listens, and own it; the port."""
        self._listening = listening
        # Owned by this object: `stop` ends it, and with it its group of greetings.
        loop = asyncio.get_running_loop()
        self._serving = loop.create_task(self._serve(listening), name="tcp-accept")
        self._serving.add_done_callback(lambda _: listening.close())
        taken: int = listening.getsockname()[1]
        return taken

    def stop(self) -> None:
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

    async def stopped(self) -> None:
        """Return once nothing is taken and nobody greeted any more."""
        if self._serving is not None:
            await asyncio.wait([self._serving])

    async def _serve(self, listening: socket.socket) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        places = asyncio.Semaphore(self._places)
        async with asyncio.TaskGroup() as greetings:
            while True:
                await places.acquire()
                try:
                    client, address = await loop.sock_accept(listening)
                except OSError as error:
                    places.release()
                    log.warning("cannot take a connection now: %s", error)
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                greeting = greetings.create_task(self._welcome(client, address[0]))
                greeting.add_done_callback(lambda _: places.release())

    async def _welcome(self, client: socket.socket, host: str) -> None:
        """Greet a client that speaks, and whose address has a place left."""
        name = self._origin(host)
        most = max(1, self._places // SHARE)
        if name is None:
            await self._listen_to(client)
        elif self._taken[name] >= most:
            log.info("%s has %d connections that say nothing of use; no more now", name, most)
            client.close()
        else:
            self._taken[name] += 1
            try:
                await self._listen_to(client)
            finally:
                self._taken[name] -= 1
                if not self._taken[name]:
                    del self._taken[name]

    async def _listen_to(self, client: socket.socket) -> None:
        if self._first_byte_s is None:
            await self._greet(client)
            return
        has_said = False
        try:
            async with asyncio.timeout(self._first_byte_s):
                await _readable(client)
                has_said = True
        except TimeoutError:
            log.info("a client said nothing within %s s", self._first_byte_s)
        finally:
            if not has_said:
                client.close()
        if has_said:
            await self._greet(client)


async def _readable(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    said = asyncio.Event()
    try:
        loop.add_reader(client, said.set)
    except NotImplementedError:  # Windows' loop; there the greeting's own deadline has to do
        return
    try:
        await said.wait()
    finally:
        loop.remove_reader(client)


async def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at the first address of `host`; port 0 is any free one.

    Who comes before anybody takes connections waits in the kernel. Raises UserError.
    """
    if not 0 <= port < 1 << 16:
        raise UserError(f"port is {port}; it must be in [1, 65535], or 0 for any free one")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, place = found[0]
        is_dual = place[0] == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(place, family=family, dualstack_ipv6=is_dual)
    except (OSError, UnicodeError) as error:
        raise UserError(_why_not(host, port, error)) from error
    listening.setblocking(False)
    return listening


def _why_not(host: str, port: int, error: OSError | UnicodeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return f"port {port} of {host} is taken; choose another one, or 0 for any free one"
    if number in (errno.EACCES, errno.EPERM):
        return f"port {port} of {host} is not for this user; choose one of 1024 or more"
    return (
        f"cannot listen at {host!r}, port {port}: {error}; try host 127.0.0.1 for this "
        f"machine only, or an address of this machine, and port 0 for any free one"
    )
