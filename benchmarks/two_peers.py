"""Decoding over two processes of one thread each beside one process of one thread, one machine.

    python benchmarks/two_peers.py [--rounds 7] [--tokens 16] [--dtype bf16]

A random Llama of 443M parameters (the one of sides.py). Two `hands join` processes hold half of it
each and are asked over TCP with mutual TLS. Beside them: one such process that holds it all; two
processes without a swarm that hold half of it each, rows and tokens going through bare pipes; and
one without a swarm, with engine and sampler in a loop. All take turns within one run, some tokens
each. One answer computes on one process at a time: the ratios are what the split costs (by pipes,
to one process), and what the swarm does. Prints one markdown row: medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import transformers

from manyhands.domain.ids import SessionId
from manyhands.domain.span import even_cuts
from manyhands.domain.work import Sampling, Want
from manyhands.engine.engine import Chunk
from manyhands.engine.sampler import draw
from manyhands.launch.founding import Founding
from manyhands.node.generate import Token, speak
from manyhands.node.opened import open_model
from manyhands.store.checkpoint import Checkpoint
from processes import READY_S, SETTINGS, swarm
from sides import DTYPES, KV_BYTES, LOADS, Ours, build, machine, words

PROMPT = words(64)
ID_BYTES = 8
WARM_UP_TOKENS = 4


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


def alone(folder: str, dtype: str, show: Callable[[str], None]) -> None:
    """The process without a swarm: for every line with a count, seconds a token."""
    text = Ours(Path(folder), "torch", dtype, 1).begin(1, len(PROMPT))
    for line in sys.stdin:
        start, tokens = time.perf_counter(), int(line)
        for _ in range(tokens):
            text.next()
        show(str((time.perf_counter() - start) / tokens))


def half(folder: str, dtype: str, number: int) -> None:
    """One of two processes without a swarm: a token in and a row out, or a row in, a token out."""
    checkpoint = Checkpoint.open(folder)
    span = even_cuts(len(checkpoint.spec.layers), 2)[number]
    engine = LOADS["torch"](
        checkpoint.spec, span, checkpoint.read, kv_bytes=KV_BYTES, dtype=dtype, threads=1
    )
    name = SessionId("0" * 32)
    engine.open(name, 2**12)
    row_bytes = 4 * checkpoint.spec.width
    for position in count():
        given = sys.stdin.buffer.read(row_bytes if number else ID_BYTES)
        if not given:
            return
        token = 0 if number else int.from_bytes(given, "little")
        row = np.frombuffer(given, np.float32)[None] if number else None
        output = engine.step([Chunk(name, position, (token,), row, (0,))])[0]
        if output.scores is None:
            answer = np.ascontiguousarray(output.hidden, np.float32).tobytes()
        else:
            drawn = draw(output.scores[0], Sampling(), position + 1, (), Want()).token
            answer = (drawn or 0).to_bytes(ID_BYTES, "little")
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def halves(folder: str, dtype: str) -> Iterator[Callable[[int], Awaitable[float]]]:
    """Starts both; calling what comes gives the seconds a token of the next so many."""
    row_bytes = 4 * Checkpoint.open(folder).spec.width
    words_of = [sys.executable, __file__, "--half", folder, "--dtype", dtype, "--number"]
    both = [
        subprocess.Popen([*words_of, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for n in range(2)
    ]
    said = [PROMPT[0]]

    def speak_on(tokens: int) -> float:
        start = time.perf_counter()
        for _ in range(tokens):
            passed = said[-1].to_bytes(ID_BYTES, "little")
            for process, size in zip(both, (row_bytes, ID_BYTES), strict=True):
                process.stdin.write(passed)
                process.stdin.flush()
                passed = process.stdout.read(size)
            said.append(int.from_bytes(passed, "little"))
        return (time.perf_counter() - start) / tokens

    try:
        speak_on(len(PROMPT))  # the others have a prompt in memory
        yield partial(asyncio.to_thread, speak_on)
    finally:
        for process in both:
            process.stdin.close()
            process.wait()


@contextlib.asynccontextmanager
async def process_alone(
    folder: str, dtype: str
) -> AsyncIterator[Callable[[int], Awaitable[float]]]:
    """Starts it; calling what comes gives the seconds a token of the next so many."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--alone",
        folder,
        "--dtype",
        dtype,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )

    async def seconds(count: int) -> float:
        process.stdin.write(f"{count}\n".encode())
        async with asyncio.timeout(READY_S):
            return float(await process.stdout.readline())

    try:
        yield seconds
    finally:
        process.stdin.close()
        await process.wait()


async def compare(chosen: argparse.Namespace, show: Callable[[str], None]) -> None:
    times: dict[str, list[float]] = {"two": [], "one": [], "pipes": [], "alone": []}
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as homes:
        build(Path(made), DTYPES[chosen.dtype], chosen.small)
        opened = open_model(made, SETTINGS, engine="torch", dtype=chosen.dtype)
        layers = len(opened.model.spec.layers)
        most = WARM_UP_TOKENS + chosen.rounds * chosen.tokens + 1
        async with (
            contextlib.AsyncExitStack() as stack,
            swarm(Path(homes) / "1", opened, even_cuts(layers, 1)) as (one, _),
            swarm(Path(homes) / "2", opened, even_cuts(layers, 2)) as (two, _),
            process_alone(made, chosen.dtype) as seconds_alone,
        ):
            through_pipes = stack.enter_context(halves(made, chosen.dtype))
            answers = {"two": tokens_of(two, most), "one": tokens_of(one, most)}
            turns = {name: partial(seconds_of, answer) for name, answer in answers.items()}
            turns |= {"pipes": through_pipes, "alone": seconds_alone}
            for turn in turns.values():
                await turn(WARM_UP_TOKENS)
            for _ in range(chosen.rounds):
                for name, turn in turns.items():
                    times[name].append(await turn(chosen.tokens))
            for answer in answers.values():
                await answer.aclose()
    rate = {name: 1 / statistics.median(values) for name, values in times.items()}

    def ratio(one: str, other: str) -> str:
        each = [slow / quick for slow, quick in zip(times[other], times[one], strict=True)]
        return f"{rate[one] / rate[other]:.3f} ({min(each):.3f}–{max(each):.3f})"

    show(
        f"| {chosen.dtype} | {rate['two']:.2f} | {rate['one']:.2f} | {ratio('two', 'one')} "
        f"| {rate['alone']:.2f} | {ratio('two', 'alone')} | {ratio('pipes', 'alone')} "
        f"| {chosen.rounds} x {chosen.tokens} | {machine()} |"
    )


def main(arguments: list[str], show: Callable[..., None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--half", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.half:
        half(chosen.half, chosen.dtype, chosen.number)
        return
    if chosen.alone:
        alone(chosen.alone, chosen.dtype, lambda text: show(text, flush=True))
        return
    transformers.utils.logging.disable_progress_bar()
    show(
        "| dtype | two processes, tok/s | one process of a swarm | two : one (range) "
        "| one process alone | two : alone (range) | two by pipes : alone (range) | tokens "
        "| machine |\n|" + "---|" * 9
    )
    asyncio.run(compare(chosen, show))


if __name__ == "__main__":
    main(sys.argv[1:])
