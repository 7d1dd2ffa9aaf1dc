"""Tokens a second of many sessions over one and over two whole copies, real and on virtual time.

    python benchmarks/replicas.py [--rounds 5] [--tokens 8] [--sessions 4] [--dtype bf16]

The random 443M Llama of sides.py. Each copy is a `hands join` process of one thread with all
layers; so many sessions a copy are open, all speak so many tokens, and the owner spreads them.
Beside them, in turns: one and two processes without a swarm that compute as many sessions each,
which is what the machine itself gives for a second process; and, on virtual time, a swarm of the
same nodes whose layers take as long as was measured. Prints one markdown row.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import transformers

from manyhands.domain.ids import ModelId
from manyhands.domain.work import Sampling
from manyhands.launch.founding import Founding
from manyhands.net.memory import Path as Way
from manyhands.node.generate import Token, speak
from manyhands.node.model import Model
from manyhands.node.opened import open_model
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.hash_engine import HashEngine, hash_profile, hash_spec
from manyhands.sim.virtual_loop import run_virtual
from processes import READY_S, SETTINGS, swarm
from sides import DTYPES, Ours, build, machine, words

PROMPT_TOKENS = 64
WARM_UP_TOKENS = 4
VIRTUAL_TOKENS = 40
VIRTUAL_LATENCY_S = 1e-4
MODEL_ID = ModelId("0e" * 32)

Turn = Callable[[int], Awaitable[float]]
"""Speaks so many tokens in every session; tokens a second of all together."""


@contextlib.asynccontextmanager
async def speaking(founding: Founding, sessions: int, most: int) -> AsyncIterator[Turn]:
    """Sessions with texts of their own, open and past their prompts."""
    owner, model = founding.node.owner, founding.opened.model
    opened = []
    for number in range(sessions):
        prompt = [number + 1, *words(PROMPT_TOKENS - 1)]
        session = await owner.open(model, Sampling(), len(prompt), len(prompt) + most)
        opened.append((session, speak(session, prompt, most)))

    async def next_of(tokens: AsyncIterator[Token], count: int) -> None:
        for _ in range(count):
            await anext(tokens)

    async def turn(count: int) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(next_of(tokens, count) for _, tokens in opened))
        return sessions * count / (time.perf_counter() - began)

    try:
        yield turn
    finally:
        for session, tokens in opened:
            await tokens.aclose()
            owner.close(session)


def alone(folder: str, dtype: str, sessions: int, show: Callable[[str], None]) -> None:
    """A process without a swarm: for every line with a count, a word when all have spoken."""
    text = Ours(Path(folder), "torch", dtype, 1).begin(sessions, PROMPT_TOKENS)
    for line in sys.stdin:
        text.back()
        for _ in range(int(line)):
            text.next()
        show("done")


@contextlib.asynccontextmanager
async def bare(folder: str, chosen: argparse.Namespace, count: int) -> AsyncIterator[Turn]:
    """So many processes without a swarm that compute at the same time."""
    options = ["--alone", folder, "--dtype", chosen.dtype, "--sessions", str(chosen.sessions)]
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, __file__, *options, stdin=pipe, stdout=pipe
        )
        for _ in range(count)
    ]

    async def turn(tokens: int) -> float:
        began = time.perf_counter()
        for process in processes:
            process.stdin.write(f"{tokens}\n".encode())
        async with asyncio.timeout(READY_S):
            await asyncio.gather(*(process.stdout.readline() for process in processes))
        return count * chosen.sessions * tokens / (time.perf_counter() - began)

    try:
        yield turn
    finally:
        for process in processes:
            process.stdin.close()
            await process.wait()


def virtual(copies: int, sessions: int, token_s: float) -> float:
    """Tokens a virtual second of so many sessions, a token of all layers taking `token_s`."""
    spec = hash_spec(6)
    layer_s = token_s / len(spec.layers)
    model = Model(
        id=MODEL_ID,
        spec=spec,
        profile=hash_profile(MODEL_ID),
        load=lambda span: HashEngine(spec, span, token_s=layer_s),
        stored=(spec.span,),
    )

    async def talk(fleet: Fleet, number: int) -> None:
        owner, prompt = fleet.nodes[0].owner, (number % 64, 1, 2)
        most = len(prompt) + VIRTUAL_TOKENS
        session = await owner.open(model, Sampling(seed=number), len(prompt), most)
        async for _ in speak(session, prompt, VIRTUAL_TOKENS):
            pass
        owner.close(session)

    async def main() -> float:
        members = (Member(can_load=False), *[Member((spec.span,), can_load=False)] * copies)
        async with Fleet(1, model, members, path=Way(latency_s=VIRTUAL_LATENCY_S)) as fleet:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            async with asyncio.TaskGroup() as tasks:
                for number in range(sessions):
                    tasks.create_task(talk(fleet, number))
            return sessions * VIRTUAL_TOKENS / (loop.time() - began_s)

    return run_virtual(main)


async def compare(chosen: argparse.Namespace) -> dict[str, list[float]]:
    """Tokens a second of each side, a figure a round."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as homes:
        build(Path(made), DTYPES[chosen.dtype], chosen.small)
        opened = open_model(made, SETTINGS, engine="torch", dtype=chosen.dtype)
        whole, most = opened.model.spec.span, WARM_UP_TOKENS + chosen.rounds * chosen.tokens + 1
        async with contextlib.AsyncExitStack() as stack:
            turns: dict[str, Turn] = {}
            for count in (1, 2):
                entered = swarm(Path(homes) / str(count), opened, [whole] * count)
                founding, _ = await stack.enter_async_context(entered)
                sessions = speaking(founding, count * chosen.sessions, most)
                turns[f"swarm {count}"] = await stack.enter_async_context(sessions)
                processes = bare(made, chosen, count)
                turns[f"bare {count}"] = await stack.enter_async_context(processes)
            for turn in turns.values():
                await turn(WARM_UP_TOKENS)
            rates: dict[str, list[float]] = {name: [] for name in turns}
            for _ in range(chosen.rounds):
                for name, turn in turns.items():
                    rates[name].append(await turn(chosen.tokens))
            return rates


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=4, help="a copy")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.alone:
        alone(chosen.alone, chosen.dtype, chosen.sessions, partial(print, flush=True))
        return
    transformers.utils.logging.disable_progress_bar()
    rates = asyncio.run(compare(chosen))

    def ratio(name: str) -> list[float]:
        return [b / a for a, b in zip(rates[f"{name} 1"], rates[f"{name} 2"], strict=True)]

    one = statistics.median(rates["swarm 1"])
    on_virtual_time = [virtual(count, count * chosen.sessions, 1 / one) for count in (1, 2)]
    virtually = on_virtual_time[1] / on_virtual_time[0]
    real, machines = statistics.median(ratio("swarm")), statistics.median(ratio("bare"))
    show(
        "| sessions a copy | one copy, tok/s | two copies | two : one (range) "
        "| two processes : one without a swarm | so of the machine's "
        "| on virtual time, two : one | of the ideal | real beside virtual | rounds | machine |\n|"
        + "---|"
        * 11
    )
    show(
        f"| {chosen.sessions} | {one:.1f} | {statistics.median(rates['swarm 2']):.1f} "
        f"| {real:.2f} ({min(ratio('swarm')):.2f}–{max(ratio('swarm')):.2f}) "
        f"| {machines:.2f} ({min(ratio('bare')):.2f}–{max(ratio('bare')):.2f}) "
        f"| {real / machines:.0%} | {virtually:.2f} | {virtually / 2:.0%} "
        f"| {real / machines / (virtually / 2) - 1:+.1%} "
        f"| {chosen.rounds} x {chosen.tokens} | {machine()} |"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
