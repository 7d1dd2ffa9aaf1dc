"""Many sessions at once on one peer: speed of all against one, delays, and whose text changed.

    python benchmarks/many_sessions.py [--form int8] [--threads 2] [--rounds 3] [--tokens 24]
                                       [--clock cpu] [--small]

The 443M Llama of sides.py, in bfloat16 or another form, one whole peer in this process (owner,
worker, batching, compute thread). Each round, in one run: one session alone decodes; eight sessions
with prompts of 16 to 2,000 tokens join one after the other and decode together; while seven of them
speak, the one with 2,000 tokens joins again. Then one that asks the same 2,000 tokens twice, for
what a shared beginning saves. Prints: tokens a second of one and of eight and their ratio (of times
when all eight speak), the longest wait for a next token while the long prompt is computed and how
much longer that is than the usual wait, the time to a first token alone and with its beginning
shared, and how many texts of the eight are the ones they give alone. Where one is not, the gap
between the two best scores there is told: below twice the profile's tolerance it is a near-tie.
`--clock cpu` counts this process's own seconds, for a machine that others use as well: with one
thread only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from clocks import Clock, add_clock, clock_of
from manyhands.cli.words import device_here
from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling, Want
from manyhands.node.generate import Token, speak
from manyhands.node.local import LocalSwarm
from manyhands.node.opened import open_model
from sides import DTYPES, FORMS, machine, stored

PROMPTS = (16, 64, 128, 250, 500, 1000, 1500, 2000)
SMALL_PROMPTS = (4, 8, 16, 20, 30, 40, 70, 200)
LONG = -1
"""Which of the prompts joins while the others speak."""

MORE = 400
"""Tokens that a session may speak beyond what is counted, while it waits for the others."""

SETTLED = 4
"""Tokens of each session that are not counted: batches form meanwhile."""


@dataclass
class Told:
    """One answer: its tokens and when each came; `is_enough` is set after `enough` of them."""

    enough: int = 0
    began_s: float = 0.0
    tokens: list[Token] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    is_enough: asyncio.Event = field(default_factory=asyncio.Event)


class Peer:
    """A swarm of one."""

    def __init__(
        self, swarm: LocalSwarm, vocabulary: int, prompts: Sequence[int], clock: Clock
    ) -> None:
        chance = random.Random(0)
        self.swarm, self._clock = swarm, clock
        self.prompts = [[chance.randrange(3, vocabulary) for _ in range(n)] for n in prompts]

    async def tell(
        self, prompt: Sequence[int], count: int, told: Told, want: Want | None = None
    ) -> None:
        """Ask for `count` tokens, greedily."""
        told.began_s = self._clock()
        owner = self.swarm.owner.owner
        session = await owner.open(
            self.swarm.model, Sampling(), len(prompt), len(prompt) + count, prompt
        )
        try:
            async for token in speak(session, prompt, count, want=want, held=session.length):
                told.tokens.append(token)
                told.at_s.append(self._clock())
                if len(told.tokens) == told.enough:
                    told.is_enough.set()
        finally:
            owner.close(session)

    async def one(self, prompt: Sequence[int], count: int, want: Want | None = None) -> Told:
        """One answer, nothing else running."""
        told = Told()
        await self.tell(prompt, count, told, want)
        return told

    async def all(self, count: int, joined: float) -> list[Told]:
        """Everybody, each joining `joined` seconds after the one before, for `count` or more.

        The earlier ones speak until all have spoken enough.
        """
        told = [Told(count) for _ in self.prompts]

        async def converse(number: int) -> None:
            await asyncio.sleep(joined * number)
            await self.tell(self.prompts[number], count + MORE, told[number])

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(converse(n)) for n in range(len(self.prompts))]
            for one in told:
                await one.is_enough.wait()
            for task in running:
                task.cancel()
        return told

    async def disturbed(self, count: int) -> tuple[list[Told], Told]:
        """All but the longest speak; then that one joins, and leaves with its first token."""
        told, long = [Told(count) for _ in self.prompts[:LONG]], Told()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.tell(prompt, count + MORE, one))
                for prompt, one in zip(self.prompts[:LONG], told, strict=True)
            ]
            for one in told:
                await one.is_enough.wait()
            await self.tell(self.prompts[LONG], 1, long)
            for task in running:
                task.cancel()
        return told, long


def together_per_s(told: Sequence[Told]) -> float:
    """Tokens a second of all, while all speak."""
    first = max(one.at_s[SETTLED] for one in told)
    last = min(one.at_s[-1] for one in told)
    return sum(sum(first < at <= last for at in one.at_s) for one in told) / (last - first)


def gaps(told: Sequence[Told], first: float, last: float) -> list[float]:
    """Waits for a next token that end or begin within [first, last]."""
    return [
        after - before
        for one in told
        for before, after in zip(one.at_s, one.at_s[1:], strict=False)
        if after > first and before < last
    ]


def difference(alone: Told, together: Told) -> str:
    """Where texts part, and the gap of the two best scores there; nothing for equal ones."""
    pairs = zip(alone.tokens, together.tokens, strict=False)
    for number, (one, other) in enumerate(pairs):
        if one.id != other.id:
            (_, best), (_, second) = alone.tokens[number].top[:2]
            return f"token {number}, gap {best - second:.3f}"
    return ""


async def measure(peer: Peer, chosen: argparse.Namespace, show: Callable[[str], None]) -> None:
    rates: list[tuple[float, float]] = []
    longest_s: list[float] = []
    delays_s: list[float] = []
    chunks: list[str] = []
    rounds: list[list[Told]] = []
    for _ in range(chosen.rounds):
        single = await peer.one(peer.prompts[len(peer.prompts) // 2], chosen.tokens)
        one = (len(single.at_s) - 1 - SETTLED) / (single.at_s[-1] - single.at_s[SETTLED])
        told = await peer.all(chosen.tokens, 0.05)
        rounds.append(told)
        rates.append((one, together_per_s(told)))
        others, long = await peer.disturbed(SETTLED + 8)
        before = gaps(others, min(o.at_s[SETTLED] for o in others), long.began_s)
        during = gaps(others, long.began_s, long.at_s[0])
        longest_s.append(max(during))
        delays_s.append(max(during) - statistics.median(before))
        chunks.append(f"{long.at_s[0] - long.began_s:.2f}")
    ratios = [many / one for one, many in rates]
    show(
        f"| {chosen.form} | {chosen.threads}, {chosen.clock} "
        f"| {statistics.median(r[0] for r in rates):.1f} "
        f"| {statistics.median(r[1] for r in rates):.1f} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
        f"| {1000 * statistics.median(longest_s):.0f} | {1000 * statistics.median(delays_s):.0f} "
        f"| {', '.join(chunks)} | {machine()} |"
    )
    want = Want(logprob=True, top_n=2)
    same, others_told = 0, []
    for number, prompt in enumerate(peer.prompts):
        alone = await peer.one(prompt, chosen.tokens, want)
        for told in rounds:
            where = difference(alone, told[number])
            same += not where
            others_told += [where] if where else []
    show(
        f"texts as alone: {same} of {len(rounds) * len(peer.prompts)}; else {others_told or 'none'}"
    )


async def shared(peer: Peer, show: Callable[[str], None]) -> None:
    """The same long prompt twice, its last token another."""
    prompt = [*reversed(peer.prompts[LONG])]
    first = await peer.one(prompt, 1)
    again = await peer.one([*prompt[:-1], prompt[0]], 1)
    one, two = (told.at_s[0] - told.began_s for told in (first, again))
    show(f"first token after {len(prompt)} tokens: {one:.3f} s, its beginning shared {two:.3f} s")


async def run(chosen: argparse.Namespace, clock: Clock, show: Callable[[str], None]) -> None:
    settings = Settings(kv_bytes=2**30, keep_s=0.0)
    with tempfile.TemporaryDirectory() as folder:
        model = str(stored(Path(folder), chosen.form, chosen.small))
        dtype = chosen.form if chosen.form in DTYPES else "auto"
        opened = open_model(model, settings, engine="torch", dtype=dtype, threads=chosen.threads)
        device = device_here(None)
        for keep_s in (0.0, 300.0):
            kept = Settings(kv_bytes=2**30, keep_s=keep_s)
            swarm = LocalSwarm(opened.model, 1, device, kept, opened.on_start)
            started = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(swarm.serve(started))
                await started.wait()
                prompts = SMALL_PROMPTS if chosen.small else PROMPTS
                peer = Peer(swarm, opened.model.spec.vocabulary, prompts, clock)
                await peer.one(peer.prompts[0], 2 * SETTLED)
                await (shared(peer, show) if keep_s else measure(peer, chosen, show))
                swarm.stop()


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", choices=FORMS, default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    add_clock(parser)
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    clock = clock_of(parser, chosen.clock, [chosen.threads])
    torch.set_num_threads(chosen.threads)
    transformers.utils.logging.disable_progress_bar()
    show(
        "| form | threads, clock | one session, tok/s | eight, tok/s | ratio (range) "
        "| longest wait for a next token in a 2,000-token prefill, ms | longer than usual by, ms "
        "| its first token after, s | machine |\n|" + "---|" * 9
    )
    asyncio.run(run(chosen, clock, show))


if __name__ == "__main__":
    main(sys.argv[1:])
