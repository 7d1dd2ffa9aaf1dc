"""What an emulated network measures beside what was asked of it: round trips and a bulk transfer.

    python benchmarks/network.py [--rounds 5] [--seconds 2.0] [--cases 1:1000 20:100 50:100]

A case is a round trip in ms and a rate in Mbit/s. `proxy`: two processes over the gates of
sim/emulator; `bare` is the same pair without it, whose round trip is in every row's. `hosts`: two
network namespaces behind the wires of tests/wires.py (Linux, root). A round trip is a message of
64 bytes to and fro, the median of 50; the rate is that of bytes sent for some seconds and counted
where they arrive, but for the first half second. Prints a markdown row a case: medians over the
rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from manyhands.sim.emulator import Emulator
from manyhands.sim.shaping import Shape
from sides import machine

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import hosts

MESSAGE, TRIPS, BLOCK_BYTES, SKIPPED_S = 64, 50, 1 << 18, 0.5
HEAD = (
    "| way | asked RTT, ms | Mbit/s | RTT, ms (range) | off | Mbit/s (range) | off | machine |\n"
    "|" + "---|" * 8
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One case."""

    trip_s: float
    rate_bytes_per_s: float

    @property
    def shape(self) -> Shape:
        """Each direction has half of the round trip."""
        return Shape(self.trip_s / 2, self.rate_bytes_per_s)


def answer(port: int) -> None:
    """The other process: gives messages back, then bulk's rate, until the parent closes."""
    with socket.create_server(("", port)) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            near, _ = listening.accept()
            with near, contextlib.suppress(OSError):
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                kind = near.recv(1)
                if kind == b"p":
                    while said := near.recv(MESSAGE):
                        near.sendall(said)
                elif kind == b"b":  # anything else is a stranger's
                    near.sendall(f"{_counted(near):.0f}".encode())


def _counted(near: socket.socket) -> float:
    """Bytes a second of what comes, without the first half of a second: TCP's own start."""
    buffer, first_s, size_bytes = bytearray(BLOCK_BYTES), 0.0, 0
    began_s = last_s = time.perf_counter()
    while taken := near.recv_into(buffer):
        last_s = time.perf_counter()
        if last_s - began_s < SKIPPED_S:
            continue
        size_bytes += taken if first_s else 0
        first_s = first_s or last_s
    return size_bytes / max(last_s - first_s, 1e-9)


def ask(host: str, port: int, seconds: float) -> tuple[float, float]:
    """Round trip in seconds, and bytes a second, from here to the other process."""
    with socket.create_connection((host, port)) as far:
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.sendall(b"p")
        times_s = []
        for _ in range(TRIPS):
            began_s = time.perf_counter()
            far.sendall(b"x" * MESSAGE)
            far.recv(MESSAGE, socket.MSG_WAITALL)
            times_s.append(time.perf_counter() - began_s)
    with socket.create_connection((host, port)) as far:
        far.sendall(b"b")
        block, end_s = bytes(BLOCK_BYTES), time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            far.sendall(block)
        far.shutdown(socket.SHUT_WR)
        rate = float(far.recv(64))
    return statistics.median(times_s), rate


@contextlib.contextmanager
def other(*on: str) -> Iterator[int]:
    """The other process; its port."""
    words = [*on, sys.executable, __file__, "--answer"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def proxied(asked: Asked, port: int) -> AsyncIterator[int]:
    """A port that leads to `port` by an emulated link."""
    async with Emulator() as network:
        await network.shape(asked.shape)
        yield await network.gate("other", port)


async def over_proxy(asked: Asked, seconds: float) -> tuple[float, float]:
    with other() as port:
        async with proxied(asked, port) as gate:
            return await asyncio.to_thread(ask, "127.0.0.1", gate, seconds)


async def bare(asked: Asked, seconds: float) -> tuple[float, float]:
    del asked
    with other() as port:
        return await asyncio.to_thread(ask, "127.0.0.1", port, seconds)


async def over_hosts(asked: Asked, seconds: float) -> tuple[float, float]:
    with hosts.network(2, asked.shape) as ((one, two), _), other(*two.words) as port:
        words = [*one.words, sys.executable, __file__, "--ask", two.addresses[0], str(port)]
        done = await asyncio.create_subprocess_exec(
            *words, "--seconds", str(seconds), stdout=subprocess.PIPE
        )
        told, _ = await done.communicate()
        trip_s, rate = map(float, told.split())
        return trip_s, rate


def row(way: str, asked: Asked, told: list[tuple[float, float]]) -> str:
    trips, rates = ([one[column] for one in told] for column in (0, 1))
    trip_s, rate = statistics.median(trips), statistics.median(rates)
    is_asked = way != "bare"
    trip_off = f"{trip_s / asked.trip_s - 1:+.1%}" if is_asked else ""
    rate_off = f"{rate / asked.rate_bytes_per_s - 1:+.1%}" if is_asked else ""
    return (
        f"| {way} | {asked.trip_s * 1e3 if is_asked else 0:g} "
        f"| {asked.rate_bytes_per_s * 8e-6 if is_asked else float('inf'):g} "
        f"| {trip_s * 1e3:.2f} ({min(trips) * 1e3:.2f}–{max(trips) * 1e3:.2f}) | {trip_off} "
        f"| {rate * 8e-6:.0f} ({min(rates) * 8e-6:.0f}–{max(rates) * 8e-6:.0f}) | {rate_off} "
        f"| {machine()} |"
    )


def read_case(text: str) -> Asked:
    trip_ms, rate_mbit = map(float, text.split(":"))
    return Asked(trip_ms * 1e-3, rate_mbit * 125e3)


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each bulk transfer")
    parser.add_argument("--cases", nargs="+", default=["1:1000", "20:100", "50:100"])
    parser.add_argument("--ways", nargs="+", default=["bare", "proxy", "hosts"])
    parser.add_argument("--small", action="store_true", help="tries the script only")
    parser.add_argument("--answer", action="store_true", help="be the other process")
    parser.add_argument("--ask", nargs=2, help="be the one that asks, HOST PORT")
    chosen = parser.parse_args(arguments)
    if chosen.answer:
        answer(0)
        return
    if chosen.ask:
        print(*ask(chosen.ask[0], int(chosen.ask[1]), chosen.seconds))
        return
    ways = {"bare": bare, "proxy": over_proxy, "hosts": over_hosts}
    show(HEAD)
    for number, asked in enumerate(map(read_case, chosen.cases)):
        for way in chosen.ways:
            if (way == "hosts" and not hosts.can_be_made()) or (way == "bare" and number):
                continue
            rounds = 1 if chosen.small else chosen.rounds
            told = [asyncio.run(ways[way](asked, chosen.seconds)) for _ in range(rounds)]
            show(row(way, asked, told))


if __name__ == "__main__":
    main(sys.argv[1:])
