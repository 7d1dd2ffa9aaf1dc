"""A user's own work beside a peer that gives, and how soon giving stops at an input.

    python benchmarks/giving.py [--rounds 5] [--work 2.0] [--stops 7] [--layers 8]

A process for each core does a fixed piece of work of some seconds (hashing and products of small
matrices), and one that sleeps most of the time says how late it gets its turn. They take turns
with nothing beside them, beside `hands join` processes that answer a session without end, as it is
(low priority), with --full-priority, and with --when idle while somebody types; the owner of the
sessions is this process. Each peer holds all of a random Llama (the one of sides.py, with fewer
layers). Then, with nothing else at work, a file is touched in mid-answer as by an input, and the
last token that comes is timed, and when the swarm is told. Prints a markdown row each: medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np

from manyhands.cli.words import device_here
from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling
from manyhands.errors import ManyhandsError
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.local import LocalPeers
from manyhands.node.generate import speak
from manyhands.node.live import until_covered
from manyhands.node.opened import Opened, open_model
from manyhands.store.home import Home
from sides import DTYPES, build, machine, words

PROMPT = words(64)
READY_S = 300.0
SETTINGS = Settings(kv_bytes=2**28, stand_in_wait_s=60.0, recovery_deadline_s=600.0)
IDLE_AFTER_S = 2
PINGS_S = 0.02
WAYS = {
    "low priority": ("--low-priority",),
    "full priority": ("--full-priority",),
    "only when idle": ("--full-priority", "--when", "idle", "--idle-after", f"{IDLE_AFTER_S}s"),
}


def work(units: int) -> None:
    """A unit takes about a millisecond: half hashing, half products."""
    block, one = bytes(2**19), np.ones((96, 96), np.float32)
    for _ in range(units):
        hashlib.sha256(block).digest()
        for _ in range(6):
            one = one @ one * np.float32(1 / 96)


def worker(show: Callable[[str], None]) -> None:
    """The user's work: for every line with a count of units, the seconds they took."""
    for line in sys.stdin:
        start = time.perf_counter()
        work(int(line))
        show(str(time.perf_counter() - start))


def pinger(show: Callable[[str], None]) -> None:
    """The user's keyboard: for every line with seconds, the median lateness of short turns."""
    for line in sys.stdin:
        late, until_s = [], time.perf_counter() + float(line)
        while time.perf_counter() < until_s:
            due_s = time.perf_counter() + PINGS_S
            time.sleep(PINGS_S)
            work(1)
            late.append(time.perf_counter() - due_s)
        show(str(statistics.median(late)))


class User:
    """A worker a core, and the pinger."""

    def __init__(self, work_s: float) -> None:
        alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        roles = ["worker"] * (os.cpu_count() or 1) + ["pinger"]
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--role", role],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone,
            )
            for role in roles
        ]  # fmt: skip
        self._work_s, self._units = work_s, 200
        self._tell(200, 0.2)
        self._units = max(1, round(200 * work_s / self._tell(200, 0.2)[0]))

    def seconds(self) -> tuple[float, float]:
        """Of the work, the slowest core's, and the median lateness beside it."""
        return self._tell(self._units, 0.8 * self._work_s)

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.stdin.close()
            process.wait()

    def _tell(self, units: int, ping_s: float) -> tuple[float, float]:
        *workers, pinger = self._processes
        for process in workers:
            print(units, file=process.stdin, flush=True)
        print(ping_s, file=pinger.stdin, flush=True)
        took = [float(process.stdout.readline()) for process in workers]
        return max(took), float(pinger.stdout.readline())


class Asked:
    """A swarm of one peer that is asked for one answer after the other."""

    def __init__(self, founding: Founding, typed: Path) -> None:
        self._founding, self.typed = founding, typed
        self.tokens = 0
        self.last_s = 0.0
        self._wanted = 0
        self._enough = asyncio.Event()

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Meanwhile it answers without end."""
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(self._ask())
            try:
                yield
            finally:
                asking.cancel()

    async def _ask(self) -> None:
        owner, model = self._founding.node.owner, self._founding.opened.model
        while True:
            most = min(400, owner.context(model) - len(PROMPT))
            with contextlib.suppress(ManyhandsError):  # it pauses for long: ask again
                session = await owner.open(model, Sampling(), len(PROMPT), len(PROMPT) + most)
                try:
                    async for _ in speak(session, PROMPT, most):
                        self.tokens += 1
                        self.last_s = time.perf_counter()
                        if self.tokens >= self._wanted:
                            self._enough.set()
                finally:
                    owner.close(session)
            await asyncio.sleep(0.1)

    async def until_paused(self) -> None:
        """Return once its record says so."""
        directory = self._founding.node.directory
        async with asyncio.timeout(READY_S):
            while not any(record.paused for record in directory.swarm.peers.values()):
                await directory.changed()

    async def until_more(self, count: int) -> None:
        """Return once so many more tokens came."""
        self._wanted = self.tokens + count
        self._enough.clear()
        async with asyncio.timeout(READY_S):
            await self._enough.wait()


@contextlib.asynccontextmanager
async def swarm(folder: Path, opened: Opened, options: tuple[str, ...]) -> AsyncIterator[Asked]:
    """An owner here that holds nothing, and a process that holds it all."""
    typed = folder / "typed"
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread(typed.touch)
    if "idle" in options:
        options = (*options, "--idle-from", f"file:{typed}")
    with Home(folder / "owner") as home:
        owner = found_swarm(home, opened, device_here(None), SETTINGS, Ports(), holds=False)
        async with owner as founding, LocalPeers(folder, 1) as peers:
            span = opened.model.spec.span
            await peers.start(
                founding.door, founding.founder.invite(), opened.folder, span, *options
            )
            await peers.peers[0].ready(READY_S)
            await until_covered(founding.node, opened.model, READY_S)
            yield Asked(founding, typed)


@contextlib.contextmanager
def typing(path: Path) -> Iterator[None]:
    """Somebody types, again and again."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import pathlib, sys, time\nwhile True:\n"
         "    pathlib.Path(sys.argv[1]).touch(); time.sleep(0.3)", str(path)]
    )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def slowed(
    rounds: int, swarms: dict[str, Asked], user: User
) -> dict[str, list[tuple[float, float, float]]]:
    """By way and round: seconds of the work, lateness, tokens a second meanwhile."""
    told: dict[str, list[tuple[float, float, float]]] = {}
    for number in range(rounds):
        ways = ["nothing", *swarms, "nothing again"]
        for way in ways if number % 2 else reversed(ways):
            async with contextlib.AsyncExitStack() as beside:
                asked = swarms.get(way)
                if asked is not None:
                    await beside.enter_async_context(asked.asking())
                    if way == "only when idle":
                        beside.enter_context(typing(asked.typed))
                    await asyncio.sleep(1.0)
                before, start = asked.tokens if asked else 0, time.perf_counter()
                seconds, late_s = await asyncio.to_thread(user.seconds)
                after = asked.tokens if asked else 0
                rate = (after - before) / (time.perf_counter() - start)
                told.setdefault(way, []).append((seconds, late_s, rate))
            if way == "only when idle":
                await asyncio.sleep(IDLE_AFTER_S + 1)
    return told


async def stops(count: int, asked: Asked) -> list[tuple[float, float]]:
    """Seconds from each input to the last token that came, and until the swarm was told."""
    found = []
    async with asked.asking():
        for _ in range(count):
            await asked.until_more(2)
            start = time.perf_counter()
            asked.typed.touch()
            await asked.until_paused()
            told_s = time.perf_counter() - start
            await asyncio.sleep(IDLE_AFTER_S / 2)
            found.append((max(0.0, asked.last_s - start), told_s))
    return found


async def compare(chosen: argparse.Namespace, show: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as homes:
        build(Path(made), DTYPES["bf16"], chosen.small, num_hidden_layers=chosen.layers)
        opened = open_model(made, SETTINGS, engine="torch", dtype="bf16")
        async with contextlib.AsyncExitStack() as stack:
            swarms = {
                way: await stack.enter_async_context(
                    swarm(Path(homes) / str(number), opened, options)
                )
                for number, (way, options) in enumerate(WAYS.items())
            }
            user = await asyncio.to_thread(User, chosen.work)
            stack.callback(user.close)
            for asked in swarms.values():  # the first steps are slow ones
                async with asked.asking():
                    await asked.until_more(2)
            show(f"{machine()}\n")
            told = await slowed(chosen.rounds, swarms, user)
            found = await stops(chosen.stops, swarms["only when idle"])
    report(told, found, show)


def report(
    told: dict[str, list[tuple[float, float, float]]],
    found: list[tuple[float, float]],
    show: Callable[[str], None],
) -> None:
    show("| beside | work s | slower, median (range) | late ms | tokens/s meanwhile |")
    show("|---|---|---|---|---|")
    alone = [seconds for seconds, _, _ in told.get("nothing", ())]
    for way, turns in told.items():
        took, late, rate = ([turn[part] for turn in turns] for part in range(3))
        slower = [100 * (one / other - 1) for one, other in zip(took, alone, strict=True)]
        show(
            f"| {way} | {statistics.median(took):.2f} | {statistics.median(slower):.1f} % "
            f"({min(slower):.1f} to {max(slower):.1f}) | {1e3 * statistics.median(late):.2f} | "
            f"{statistics.median(rate):.2f} |"
        )
    for what, times in zip(
        ("the last token", "the swarm's being told"), zip(*found, strict=True), strict=True
    ):
        show(
            f"\nfrom input to {what}: median {statistics.median(times):.2f} s, at most "
            f"{max(times):.2f} s, of {len(times)}"
        )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=float, default=2.0, help="seconds of the user's work")
    parser.add_argument("--stops", type=int, default=7)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="a toy model")
    parser.add_argument("--role", choices=["worker", "pinger"], help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.role:
        {"worker": worker, "pinger": pinger}[chosen.role](lambda line: print(line, flush=True))
        return
    asyncio.run(compare(chosen, show))


if __name__ == "__main__":
    main(sys.argv[1:])
