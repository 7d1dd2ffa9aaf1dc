"""A hop over TCP with mutual TLS between two processes: our transport beside bare asyncio TLS.

    python benchmarks/tcp_hop.py [--rounds 5] [--echoes 1000] [--megabytes 256]

Ours: a frame of 16 KiB in, a frame out, through TcpTransport on both sides. Bare: the same bytes
through asyncio.Protocol on both sides, with the same TLS contexts. They take turns within one run.
A hop is half a round trip. Bulk: frames of 128 KB one way, a few acknowledged at a time. Prints one
markdown row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import ssl
import statistics
import sys
import time
from datetime import UTC, datetime

import cryptography

from manyhands.errors import PeerLost
from manyhands.net.tcp import TcpTransport, read_address
from manyhands.net.tls import Contexts
from manyhands.net.transport import Connection
from manyhands.trust.certificate import Membership, admit, found
from manyhands.trust.signature import KeyPair
from manyhands.wire.frame import Frame, Kind

ECHO_BYTES, BULK_BYTES = 16 << 10, 128_000
ACKNOWLEDGED_EVERY, MOST_AHEAD = 16, 64
"""Bulk frames to an acknowledgement; bulk frames that may be under way."""

NOW_S = datetime.now(UTC).timestamp()
SWARM = found(KeyPair.from_seed(b"s" * 32), NOW_S, 3600, 1)
DIALLER, ANSWERER = KeyPair.from_seed(b"d" * 32), KeyPair.from_seed(b"a" * 32)


def membership(keys: KeyPair) -> Membership:
    return Membership(keys, admit(SWARM, keys.peer, NOW_S, 3600, 2), SWARM.certificate_pem)


class Bare(asyncio.Protocol):
    """One end of the bare link: echoes what comes, or tells when so many bytes have come."""

    def __init__(self, *, echoes: bool) -> None:
        self.echoes = echoes
        self.wanted, self.done = 0, asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self.echoes:
            self.transport.write(data)
            return
        self.wanted -= len(data)
        if self.wanted <= 0 and not self.done.done():
            self.done.set_result(None)

    async def echo(self, data: bytes) -> None:
        """Send `data` and wait until as much has come back."""
        self.wanted, self.done = len(data), asyncio.get_running_loop().create_future()
        self.transport.write(data)
        await self.done


async def answer(connection: Connection, bulk: dict[str, int]) -> None:
    """The other process: steps are echoed, bulk is counted and acknowledged."""
    try:
        while True:
            frame = await connection.receive()
            if frame.kind == Kind.STEP:
                connection.send(frame)
                continue
            bulk["frames"] += 1
            if bulk["frames"] % ACKNOWLEDGED_EVERY == 0:
                connection.send(Frame(Kind.ACK, b""))
    except PeerLost:
        return


async def serve() -> None:
    """Listen both ways, say where, and run until the parent closes our input."""
    loop = asyncio.get_running_loop()
    transport = TcpTransport(membership(ANSWERER))
    contexts = Contexts(membership(ANSWERER))
    async with asyncio.TaskGroup() as tasks:
        address = await transport.listen(
            lambda connection: tasks.create_task(answer(connection, {"frames": 0})) and None
        )
        server = await loop.create_server(
            lambda: Bare(echoes=True), "127.0.0.1", 0, ssl=contexts.server
        )
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"ours": address, "bare": port}), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        server.close()
        await transport.close()


async def ours_echo_s(connection: Connection, count: int) -> list[float]:
    payload, times = os.urandom(ECHO_BYTES), []
    for _ in range(count):
        began = time.perf_counter()
        connection.send(Frame(Kind.STEP, b"", (payload,)))
        await connection.receive()
        times.append(time.perf_counter() - began)
    return times


async def bare_echo_s(bare: Bare, count: int) -> list[float]:
    payload, times = os.urandom(ECHO_BYTES), []
    for _ in range(count):
        began = time.perf_counter()
        await bare.echo(payload)
        times.append(time.perf_counter() - began)
    return times


async def bulk_mb_per_s(connection: Connection, megabytes: int) -> float:
    """Frames of 128 KB one way, never more than a few under way."""
    frame = Frame(Kind.RESULT, b"", (os.urandom(BULK_BYTES),))
    count = megabytes * 10**6 // BULK_BYTES // ACKNOWLEDGED_EVERY * ACKNOWLEDGED_EVERY
    sent = confirmed = 0
    began = time.perf_counter()
    while confirmed < count:
        while sent < count and sent - confirmed < MOST_AHEAD:
            connection.send(frame)
            sent += 1
        await connection.receive()
        confirmed += ACKNOWLEDGED_EVERY
    return count * BULK_BYTES / 1e6 / (time.perf_counter() - began)


def said(times_s: list[float]) -> str:
    """Hop p50 / p99 in microseconds: half of the round trips."""
    parts = statistics.quantiles(times_s, n=100)
    return f"{parts[49] / 2 * 1e6:.0f} / {parts[98] / 2 * 1e6:.0f}"


async def measure(rounds: int, echoes: int, megabytes: int) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--serve",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    where = json.loads(await child.stdout.readline())
    transport = TcpTransport(membership(DIALLER))
    connection = await transport.dial(where["ours"], ANSWERER.peer)
    host, _ = read_address(where["ours"])
    raw, bare = await asyncio.get_running_loop().create_connection(
        lambda: Bare(echoes=False),
        host,
        where["bare"],
        ssl=Contexts(membership(DIALLER)).client,
        server_hostname="",
    )
    await ours_echo_s(connection, 200)
    await bare_echo_s(bare, 200)
    ours_s, bare_s, bulk = [], [], []
    for _ in range(rounds):
        ours_s += await ours_echo_s(connection, echoes)
        bare_s += await bare_echo_s(bare, echoes)
        bulk.append(await bulk_mb_per_s(connection, megabytes))
    raw.close()
    await transport.close()
    child.stdin.close()
    await child.wait()
    ratio = statistics.median(ours_s) / statistics.median(bare_s)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    versions = (
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}, "
        f"cryptography {cryptography.__version__}"
    )
    print(
        "| hop of 16 KiB, ours p50 / p99 µs | bare asyncio TLS p50 / p99 µs | ours : bare "
        "| bulk MB/s, least to most | echoes | machine | versions |\n|" + "---|" * 7
    )
    print(
        f"| {said(ours_s)} | {said(bare_s)} | {ratio:.2f} | {min(bulk):.0f} to {max(bulk):.0f} "
        f"| {len(ours_s)} each | {machine} | {versions} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--echoes", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--serve", action="store_true", help="be the other process")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
    else:
        asyncio.run(measure(arguments.rounds, arguments.echoes, arguments.megabytes))


if __name__ == "__main__":
    main()
