"""Decoding over two processes of one thread each beside one process of one thread, one machine.

    python benchmarks/two_peers.py [--rounds 7] [--tokens 16] [--dtype bf16]

A random Llama of 443M parameters (the one of decode.py). One process holds it all, or two hold half
of it each; both are `hands join` processes that this one asks over TCP with mutual TLS, so that
only the split differs. They take turns within one run, some tokens each. One answer computes on one
process at a time: the ratio is what the split costs. Also told is one process without any swarm,
engine and sampler in a loop. Prints one markdown row: medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import transformers

from decode import DTYPES, PROMPT, build, machine, ours, seconds_a_token
from manyhands.cli.words import device_here
from manyhands.domain.settings import Settings
from manyhands.domain.span import even_cuts
from manyhands.domain.work import Sampling
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.local import LocalPeers
from manyhands.node.generate import Token, speak
from manyhands.node.live import until_covered
from manyhands.node.opened import Opened, open_model
from manyhands.store.home import Home

READY_S = 300.0
WARM_UP_TOKENS = 4
SETTINGS = Settings(kv_bytes=2**28)


@contextlib.asynccontextmanager
async def swarm(folder: Path, opened: Opened, processes: int) -> AsyncIterator[Founding]:
    """An owner here that holds nothing, and so many processes that share the model."""
    with Home(folder / "owner") as home:
        owner = found_swarm(home, opened, device_here(None), SETTINGS, Ports(), holds=False)
        async with owner as founding, LocalPeers(folder, processes) as peers:
            for span in even_cuts(len(opened.model.spec.layers), processes):
                invite = founding.founder.invite()
                await peers.start(founding.door, invite, opened.folder, span, "--threads", "1")
            for peer in peers.peers:
                await peer.ready(READY_S)
            await until_covered(founding.node, opened.model, READY_S)
            yield founding


async def tokens_of(founding: Founding, most: int) -> AsyncIterator[Token]:
    """One greedy answer."""
    owner, model = founding.node.owner, founding.opened.model
    session = await owner.open(model, Sampling(), len(PROMPT), len(PROMPT) + most)
    try:
        async for token in speak(session, PROMPT, most):
            yield token
    finally:
        owner.close(session)


async def seconds_of(tokens: AsyncIterator[Token], count: int) -> float:
    """Wall time of the next `count` tokens, divided."""
    start = time.perf_counter()
    for _ in range(count):
        await anext(tokens)
    return (time.perf_counter() - start) / count


async def compare(chosen: argparse.Namespace, show: Callable[[str], None]) -> None:
    times: dict[str, list[float]] = {"bare": [], "one": [], "two": []}
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as homes:
        build(Path(made), DTYPES[chosen.dtype], chosen.small)
        opened = open_model(made, SETTINGS, engine="torch", dtype=chosen.dtype)
        most = WARM_UP_TOKENS + chosen.rounds * chosen.tokens + 1
        async with (
            swarm(Path(homes) / "1", opened, 1) as one,
            swarm(Path(homes) / "2", opened, 2) as two,
        ):
            answers = {"one": tokens_of(one, most), "two": tokens_of(two, most)}
            for answer in answers.values():
                await seconds_of(answer, WARM_UP_TOKENS)
            for _ in range(chosen.rounds):
                for name, answer in answers.items():
                    times[name].append(await seconds_of(answer, chosen.tokens))
            for answer in answers.values():
                await answer.aclose()
        bare = ours(Path(made), chosen.dtype, 1)
        seconds_a_token(bare, WARM_UP_TOKENS)
        times["bare"] = [seconds_a_token(bare, chosen.tokens) for _ in range(chosen.rounds)]
    rate = {name: 1 / statistics.median(values) for name, values in times.items()}
    ratios = [one / two for one, two in zip(times["one"], times["two"], strict=True)]
    ratio = rate["two"] / rate["one"]
    show(
        f"| {chosen.dtype} | {rate['two']:.2f} | {rate['one']:.2f} | {ratio:.3f} "
        f"({min(ratios):.3f}–{max(ratios):.3f}) | {rate['bare']:.2f} | {chosen.rounds} x "
        f"{chosen.tokens} | {machine()} |"
    )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    transformers.utils.logging.disable_progress_bar()
    show(
        "| dtype | two processes, tok/s | one process | ratio (range) | the engine alone "
        "| tokens | machine |\n|" + "---|" * 7
    )
    asyncio.run(compare(chosen, show))


if __name__ == "__main__":
    main(sys.argv[1:])
