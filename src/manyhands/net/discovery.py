"""Doors of swarms in the networks of this machine: announced and found by multicast DNS.

Nothing that is told here is secret, and nothing that is heard is believed: who joins looks at the
key that answers, or at a code. The library is zeroconf; one socket an interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from manyhands.domain.ids import is_hex, is_name
from manyhands.net.interfaces import interfaces

log = logging.getLogger(__name__)

SERVICE = "_manyhands._tcp.local."
LOOK_AGAIN_S = 5.0
"""So often it is seen whether this machine came into another network."""

MOST_FOUND = 64
"""Doors of one search; a stranger can announce any number."""

SETTLE_S = 1.5
"""After the first answer the others' have come, too: they are asked all at once."""

_ASK_MS = 1500


@dataclass(frozen=True, slots=True)
class SeenDoor:
    """A door as it is announced. `door` is its key's fingerprint in hex, `hosts` are addresses."""

    swarm: str
    door: str
    name: str
    protocol: int
    hosts: tuple[str, ...]
    port: int


async def announce(seen: Callable[[], SeenDoor]) -> None:
    """Tell of a door on every interface until cancelled; again when this machine moves.

    `seen` gives what is to be told now. Where nothing can be told that is logged, and tried again.
    """
    while True:
        addresses, told = _places(), seen()
        try:
            async with _announced(told, addresses):
                while (_places(), seen()) == (addresses, told):  # noqa: ASYNC110 (nobody tells)
                    await asyncio.sleep(LOOK_AGAIN_S)
        except (OSError, ZeroconfError) as error:
            log.info("the door is not announced: %s", error)
            await asyncio.sleep(LOOK_AGAIN_S)


async def search(
    seconds: float,
    enough: Callable[[SeenDoor], bool] = lambda _: False,
    settle_s: float = SETTLE_S,
) -> tuple[SeenDoor, ...]:
    """The doors that answer within `seconds`, sorted by name.

    It ends sooner by one that is `enough`, and `settle_s` after the first one. Without any network
    there are none.
    """
    loop = asyncio.get_running_loop()
    found: dict[str, SeenDoor] = {}
    names: asyncio.Queue[str] = asyncio.Queue(MOST_FOUND)

    def changed(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        del zeroconf, service_type
        if state_change is ServiceStateChange.Added and not names.full():
            names.put_nowait(name)

    with contextlib.suppress(TimeoutError, OSError, ZeroconfError):
        async with asyncio.timeout(seconds) as limit, _zeroconf(_places()) as zeroconf:
            browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
            try:
                while True:
                    name = await names.get()
                    seen = await _asked(zeroconf.zeroconf, name)
                    if seen is not None:
                        if not found:
                            limit.reschedule(min(limit.when() or 0, loop.time() + settle_s))
                        found[name] = seen
                        if enough(seen):
                            break
            finally:
                await browser.async_cancel()
    return tuple(sorted(found.values(), key=lambda seen: (seen.name, seen.door)))


async def _asked(zeroconf: Zeroconf, name: str) -> SeenDoor | None:
    info = AsyncServiceInfo(SERVICE, name)
    return read(info) if await info.async_request(zeroconf, _ASK_MS) else None


def read(info: AsyncServiceInfo) -> SeenDoor | None:
    """What somebody announced; None for what is none of ours."""
    said = {
        key.decode("ascii", "replace"): (value or b"").decode("ascii", "replace")
        for key, value in info.properties.items()
    }
    hosts = tuple(info.parsed_addresses(IPVersion.V4Only))
    swarm, door, name = (said.get(key, "") for key in ("swarm", "door", "name"))
    protocol = said.get("protocol", "")
    is_ours = is_hex(swarm, 64) and is_hex(door, 32) and is_name(name)
    if not is_ours or not hosts or not info.port or not protocol.isdecimal():
        log.info("an announcement that is none of ours: %.100r", info.name)
        return None
    return SeenDoor(swarm, door, name, int(protocol[:9]), hosts, info.port)


def write(seen: SeenDoor) -> AsyncServiceInfo:
    """What is announced of a door."""
    return AsyncServiceInfo(
        SERVICE,
        f"{seen.door}.{SERVICE}",
        port=seen.port,
        server=f"manyhands-{seen.door}.local.",
        parsed_addresses=list(seen.hosts),
        properties={
            "swarm": seen.swarm,
            "door": seen.door,
            "name": seen.name,
            "protocol": str(seen.protocol),
        },
    )


@contextlib.asynccontextmanager
async def _announced(seen: SeenDoor, addresses: tuple[str, ...]) -> AsyncIterator[None]:
    info = write(seen)
    async with _zeroconf(addresses) as zeroconf:
        # the fingerprint of a key is its own: nobody has to be asked whether the name is free
        await (await zeroconf.async_register_service(info, cooperating_responders=True))
        try:
            yield
        finally:
            await (await zeroconf.async_unregister_service(info))


@contextlib.asynccontextmanager
async def _zeroconf(addresses: tuple[str, ...]) -> AsyncIterator[AsyncZeroconf]:
    """Raises OSError when this machine is in no network."""
    if not addresses:
        raise OSError("this machine is in no network")
    zeroconf = AsyncZeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only)
    try:
        yield zeroconf
    finally:
        await zeroconf.async_close()


def _places() -> tuple[str, ...]:
    return tuple(
        one.address for one in interfaces() if one.kind != "loopback" and one.hears_multicast
    )
