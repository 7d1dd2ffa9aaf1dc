"""The rate of a fetch between two processes, beside the rate of the link itself in the same run.

    python benchmarks/pieces.py [--rounds 5] [--layers 6] [--folder FOLDER] [--rates 125e6 0]

Link: frames of 256 KiB through TcpTransport, as many on their way as a fetch has, nothing read,
hashed or written. Fetch: the pieces of a random model's files from the other process's disk, each
verified and written; its time is taken at the last piece, and once more when all is forced to the
disk. They take turns, once for each rate of the link between them (bytes per second, emulated in a
third process; 0 is as fast as both processes can on one machine, whose cores they share).
Meanwhile a frame of 16 KiB goes to and fro on a connection of its own, as a step would: its round
trip with and without a fetch beside it. Prints a markdown row a rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import ssl
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from manyhands.domain.device import Device
from manyhands.domain.manifest import BLOCK_BYTES
from manyhands.domain.settings import Settings
from manyhands.errors import PeerLost
from manyhands.net.tcp import TcpTransport
from manyhands.net.transport import Connection
from manyhands.node.fetching import WINDOW_BLOCKS
from manyhands.node.live import Listening, LivePeer
from manyhands.sim.emulator import Emulator
from manyhands.sim.shaping import Shape
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.fetched import FetchedFolder
from manyhands.store.pieces import WholeFolder
from manyhands.trust.certificate import Membership, admit, found
from manyhands.trust.signature import KeyPair
from manyhands.wire.frame import Frame, Kind
from sides import build

STEP_BYTES, ECHO_EVERY_S = 16 << 10, 0.005

NOW_S = datetime.now(UTC).timestamp()
SWARM = found(KeyPair.from_seed(b"s" * 32), NOW_S, 3600, 1)
FETCHER, GIVER, ANSWERER = (KeyPair.from_seed(letter * 32) for letter in (b"f", b"g", b"a"))
DEVICE = Device("cpu", 1 << 30, 10e9, 50e9, 1e-4)


def membership(keys: KeyPair) -> Membership:
    return Membership(keys, admit(SWARM, keys.peer, NOW_S, 3600, 2), SWARM.certificate_pem)


def live(keys: KeyPair, at: Listening | None = None) -> LivePeer:
    return LivePeer(membership(keys), (), DEVICE, Settings(), at or Listening())


async def answer(connection: Connection) -> None:
    """The link's other end: a frame of a block for every question."""
    frame = Frame(Kind.BLOCK, b"", (os.urandom(BLOCK_BYTES),))
    try:
        while True:
            question = await connection.receive()
            connection.send(question if question.kind == Kind.STEP else frame)
    except PeerLost:
        return


async def gates(network: Emulator, count: int) -> list[int]:
    """Free ports, each with the gate that leads there behind it."""
    ports = []
    for number in range(count):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ports += [port, await network.gate(f"listener {number}", port)]
    return ports


async def serve(folder: Path, ports: list[int]) -> None:
    """Give the folder's pieces, and bare frames, until the parent closes our input.

    `ports` are two to listen at, each with the one by which it is reached.
    """
    port, public_port, bare_port, public_bare_port = ports or (0, None, 0, None)
    checkpoint = Checkpoint.open(folder)
    shelf = WholeFolder(checkpoint, checkpoint.identity())
    began = time.perf_counter()
    while not shelf.prepare():
        pass
    hashed_s = time.perf_counter() - began
    peer = live(GIVER, Listening(port=port, public_port=public_port))
    transport = TcpTransport(membership(ANSWERER), port=bare_port, public_port=public_bare_port)
    peer.node.seeder.offer(shelf)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(peer.run())
        await peer.node.started()
        bare = await transport.listen(lambda one: tasks.create_task(answer(one)) and None)
        told = {
            "peer": peer.address,
            "bare": bare,
            "model": checkpoint.identity(),
            "hashed_s": hashed_s,
        }
        print(json.dumps(told), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await transport.close()
        running.cancel()


async def link_bytes_per_s(connection: Connection, blocks: int) -> float:
    question = Frame(Kind.ACK, b"")
    began, asked = time.perf_counter(), 0
    for came in range(blocks):
        while asked < min(blocks, came + WINDOW_BLOCKS):
            connection.send(question)
            asked += 1
        await connection.receive()
    return blocks * BLOCK_BYTES / (time.perf_counter() - began)


async def echo(connection: Connection, times_s: list[float], enough: asyncio.Event) -> None:
    """A step's frame to and fro, until there are enough."""
    step = Frame(Kind.STEP, b"", (os.urandom(STEP_BYTES),))
    while not enough.is_set():
        began = time.perf_counter()
        connection.send(step)
        await connection.receive()
        times_s.append(time.perf_counter() - began)
        await asyncio.sleep(ECHO_EVERY_S)


async def fetch_bytes_per_s(peer: LivePeer, folder: FetchedFolder) -> tuple[float, float]:
    """To the last piece, and until all is on the disk."""
    came: list[float] = []
    began = time.perf_counter()
    await peer.node.fetcher.fetch(
        folder, range(len(folder.table)), lambda _: came.append(time.perf_counter())
    )
    size = folder.table.size_bytes(folder.had)
    return size / (came[-1] - began), size / (time.perf_counter() - began)


async def measure(model: Path, scratch: Path, rounds: int, rate_bytes_per_s: int) -> None:
    async with Emulator() as network:
        if rate_bytes_per_s:
            await network.shape(Shape(rate_bytes_per_s=rate_bytes_per_s))
        ports = await gates(network, 2) if rate_bytes_per_s else []
        await measure_by(ports, model, scratch, rounds, rate_bytes_per_s)


async def measure_by(
    ports: list[int], model: Path, scratch: Path, rounds: int, rate_bytes_per_s: int
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", str(model), "--ports", *map(str, ports),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    where = json.loads(await child.stdout.readline())
    transport, peer = TcpTransport(membership(FETCHER)), live(FETCHER)
    connection = await transport.dial(where["bare"], ANSWERER.peer)
    steps = await transport.dial(where["bare"], ANSWERER.peer)
    links, fetches, forced, alone_s, beside_s = [], [], [], [], []
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(peer.run())
        await peer.node.started()
        peer.node.directory.join(GIVER.peer, where["peer"])
        while len(peer.node.directory.swarm.peers) < 2:
            await peer.node.directory.changed()
        manifest = (await peer.node.fetcher.manifest(where["model"])).manifest
        size = sum(file.size_bytes for file in manifest.files)
        await link_bytes_per_s(connection, 200)
        for number in range(rounds):
            here = scratch / f"{rate_bytes_per_s}-{number}"
            links.append(await link_bytes_per_s(connection, size // BLOCK_BYTES))
            folder = FetchedFolder.create(here, manifest)
            await asyncio.sleep(0.1)
            enough = asyncio.Event()
            echo_ends = tasks.create_task(echo(steps, alone_s, enough))
            await asyncio.sleep(1.0)
            enough.set()
            await echo_ends
            enough = asyncio.Event()
            echo_ends = tasks.create_task(echo(steps, beside_s, enough))
            rate, whole_rate = await fetch_bytes_per_s(peer, folder)
            enough.set()
            await echo_ends
            fetches.append(rate)
            forced.append(whole_rate)
            for file in manifest.files:
                (folder.folder / file.name).unlink()
        running.cancel()
    await transport.close()
    child.stdin.close()
    await child.wait()
    say(rate_bytes_per_s, size, where["hashed_s"], links, fetches, forced, (alone_s, beside_s))


def say(
    rate_bytes_per_s: int,
    size: int,
    hashed_s: float,
    links: list[float],
    fetches: list[float],
    forced: list[float],
    steps_s: tuple[list[float], list[float]],
) -> None:
    ratios = [fetch / link for fetch, link in zip(fetches, links, strict=True)]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    versions = f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}"
    held = f"{rate_bytes_per_s * 8 / 1e9:g} Gbit/s" if rate_bytes_per_s else "no"
    print(
        f"| {held} | {statistics.median(links) / 1e6:.0f} | {statistics.median(fetches) / 1e6:.0f} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {statistics.median(forced) / 1e6:.0f} | {quantiles(steps_s[0])} "
        f"| {quantiles(steps_s[1])} | {size / hashed_s / 1e6:.0f} "
        f"| {size / 1e6:.0f} | {machine} | {versions} |"
    )


def quantiles(times_s: list[float]) -> str:
    parts = statistics.quantiles(times_s, n=100)
    return f"{parts[49] * 1e3:.2f} / {parts[98] * 1e3:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=6, help="blocks of the random model")
    parser.add_argument("--small", action="store_true", help="a toy, to try the script with")
    parser.add_argument("--rates", type=float, nargs="+", default=[125e6, 0])
    parser.add_argument("--folder", type=Path, help="where to write; else a temporary folder")
    parser.add_argument("--serve", type=Path, help="be the other process")
    parser.add_argument("--ports", type=int, nargs="*", help="where that one listens")
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(arguments.serve, arguments.ports))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        model = Path(scratch) / "model"
        build(model, torch.bfloat16, small=arguments.small, num_hidden_layers=arguments.layers)
        print(
            "| held to | link MB/s | fetch MB/s | fetch : link, median (range) | on the disk MB/s "
            "| step alone, p50 / p99 ms | beside a fetch | hashing MB/s | size MB | machine "
            "| versions |\n|" + "---|" * 11
        )
        for rate in arguments.rates:
            asyncio.run(measure(model, Path(scratch), arguments.rounds, round(rate)))


if __name__ == "__main__":
    main()
