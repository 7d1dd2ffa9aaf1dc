"""The hop of a session: compute thread of one stage done, compute thread of the next one started.

    python benchmarks/hop.py [--rounds 5] [--tokens 1000]

An owner and two stages, three processes on this machine, real nodes over TCP with mutual TLS. Their
engine computes nothing: it hands on one row of 16 KiB and notes on the system's monotonic clock,
which all processes share, when each step began and ended in the compute thread. Decoding the row
and encoding it are part of the hop. Beside it, in turns, half a round trip of 16 KiB between two of
these processes through bare asyncio TLS. Prints one markdown row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.work import Sampling
from manyhands.engine.engine import Chunk, Output
from manyhands.net.tcp import read_address
from manyhands.net.tls import Contexts
from manyhands.node.generate import speak
from manyhands.node.live import Listening, LivePeer, until_covered
from manyhands.node.model import Model
from manyhands.sim.hash_engine import HashEngine, hash_profile, hash_spec
from manyhands.trust.signature import KeyPair
from recovery import machine
from tcp_hop import ANSWERER, DIALLER, Bare, bare_echo_s, membership

WIDTH = 4096
"""Numbers of four bytes: a row of 16 KiB."""

SPEC = replace(hash_spec(2), width=WIDTH)
STAGES = (ANSWERER, KeyPair.from_seed(b"n" * 32))
SPANS = Span(0, 2), Span(2, 4)
DEVICE = Device("cpu", 1 << 30, 10e9, 50e9, 1e-5)
MODEL_ID = ModelId("0b" * 32)
WARM_UP_TOKENS = 200
START_S = 60.0


class Idle(HashEngine):
    """Hands a row on. `stamps` are (position, began, ended) in nanoseconds, of single tokens."""

    def __init__(self, span: Span, stamps: list[tuple[int, int, int]]) -> None:
        super().__init__(SPEC, span)
        self._stamps = stamps
        self._row = np.ones((1, WIDTH), np.float32)
        self._scores = np.zeros((1, SPEC.vocabulary), np.float32)

    def step(self, batch: Sequence[Chunk]) -> list[Output]:
        """See Engine; nothing is remembered."""
        began = time.monotonic_ns()
        is_last = self.span.last == len(SPEC.layers)
        made = [
            Output(self._row, self._scores[: len(chunk.rows)])
            if is_last
            else Output(self._row.repeat(len(chunk.token_ids), 0))
            for chunk in batch
        ]
        self._stamps += [(batch[0].position, began, time.monotonic_ns())]
        return made


def model(stamps: list[tuple[int, int, int]], *, is_stored: bool) -> Model:
    return Model(
        MODEL_ID,
        SPEC,
        hash_profile(MODEL_ID),
        lambda span: Idle(span, stamps),
        (SPEC.span,) if is_stored else (),
    )


async def serve(stage: int) -> None:
    """A stage: say where, then at every line the stamps since the last, until our input ends."""
    keys, stamps = STAGES[stage], []
    ours = model(stamps, is_stored=True)
    peer = LivePeer(membership(keys), (ours,), DEVICE, Settings(), Listening())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(peer.run())
        await peer.node.started()
        await peer.node.hold(ours, SPANS[stage])
        server = await asyncio.get_running_loop().create_server(
            lambda: Bare(echoes=True), "127.0.0.1", 0, ssl=Contexts(peer.membership).server
        )
        print(json.dumps([peer.address, server.sockets[0].getsockname()[1]]), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(stamps), flush=True)
            stamps.clear()
        server.close()
        running.cancel()


class Stages:
    """The two other processes."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.places: list[tuple[str, int]] = []

    async def start(self) -> None:
        """Until both have said where they are."""
        for stage in range(len(STAGES)):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                __file__,
                "--stage",
                str(stage),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 24,
            )
            self.processes.append(process)
            async with asyncio.timeout(START_S):
                self.places.append(json.loads(await process.stdout.readline()))

    async def stamps(self) -> list[dict[int, tuple[int, int]]]:
        """By stage and position: when the step began and ended."""
        found = []
        for process in self.processes:
            process.stdin.write(b"\n")
            line = await process.stdout.readline()
            found.append({at: (began, ended) for at, began, ended in json.loads(line)})
        return found

    async def end(self) -> None:
        """Close their input."""
        for process in self.processes:
            process.stdin.close()
            await process.wait()


async def hops_s(owner: LivePeer, stages: Stages, tokens: int) -> tuple[list[float], list[float]]:
    """Of one answer: seconds of every hop between the stages, and of every token."""
    ours = model([], is_stored=False)
    session = await owner.node.owner.open(ours, Sampling(), 1, tokens + 1)
    at_s = [time.perf_counter() async for _ in speak(session, [1], tokens)]
    owner.node.owner.close(session)
    first, second = await stages.stamps()
    hops = [(second[at][0] - first[at][1]) / 1e9 for at in first if at and at in second]
    return hops, [after - before for before, after in pairwise(at_s)]


def said(times_s: list[float]) -> str:
    """p50 / p99 in milliseconds."""
    parts = statistics.quantiles(times_s, n=100)
    return f"{parts[49] * 1e3:.3f} / {parts[98] * 1e3:.3f}"


async def measure(rounds: int, tokens: int, show: Callable[[str], None]) -> None:
    stages = Stages()
    await stages.start()
    ours = model([], is_stored=False)
    owner = LivePeer(membership(DIALLER), (ours,), DEVICE, Settings(), Listening())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(owner.run())
        await owner.node.started()
        for keys, (address, _) in zip(STAGES, stages.places, strict=True):
            owner.node.directory.join(PeerId(keys.peer), address)
        await until_covered(owner.node, ours, START_S)
        host, _ = read_address(stages.places[0][0])
        raw, bare = await asyncio.get_running_loop().create_connection(
            lambda: Bare(echoes=False),
            host,
            stages.places[0][1],
            ssl=Contexts(owner.membership).client,
            server_hostname="",
        )
        await hops_s(owner, stages, WARM_UP_TOKENS)
        await bare_echo_s(bare, WARM_UP_TOKENS)
        ours_s, token_s, bare_s = [], [], []
        for _ in range(rounds):
            some, others = await hops_s(owner, stages, tokens)
            ours_s += some
            token_s += others
            bare_s += [trip / 2 for trip in await bare_echo_s(bare, tokens)]
        raw.close()
        running.cancel()
    await stages.end()
    ratio = statistics.median(ours_s) / statistics.median(bare_s)
    show(
        "| hop of 16 KiB, p50 / p99 ms | half a bare asyncio TLS echo, p50 / p99 ms | ours : bare "
        "| a token of two stages (three messages), p50 / p99 ms | hops | machine |\n|" + "---|" * 6
    )
    show(
        f"| {said(ours_s)} | {said(bare_s)} | {ratio:.2f} | {said(token_s)} | {len(ours_s)} "
        f"| {machine()}, {ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]} |"
    )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--small", action="store_true", help="few tokens: tries the script only")
    parser.add_argument("--stage", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.stage is not None:
        asyncio.run(serve(chosen.stage))
    elif chosen.small:
        asyncio.run(measure(1, 100, show))
    else:
        asyncio.run(measure(chosen.rounds, chosen.tokens, show))


if __name__ == "__main__":
    main(sys.argv[1:])
