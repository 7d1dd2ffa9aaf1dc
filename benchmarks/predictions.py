"""Predicted and measured tokens a second of one answer, over 1 to 4 processes, one of them slowed.

    python benchmarks/predictions.py [--peers 1 2 3 4] [--runs 5] [--tokens 48] [--dtype bf16]

The random 443M Llama of sides.py. Each peer is a `hands join` process of one thread with an even
share. What a device does is followed by the peers themselves from the steps they compute, beginning
with a guess; links are measured by them. Before each run it is counted from the owner's snapshot of
the swarm what the route will do; then it answers. `half`: one of two peers is stopped every other
5 ms. Prints one markdown row a case: medians over the runs, and how far the
prediction lay off at the median and at most.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import transformers

from manyhands.domain.span import even_cuts
from manyhands.domain.work import Route, Sampling, Stage
from manyhands.launch.founding import Founding
from manyhands.node.generate import speak
from manyhands.node.opened import Opened, open_model
from manyhands.plan.cost import Cost
from manyhands.plan.routing import route_s
from manyhands.sim.slowing import slowed
from processes import SETTINGS, swarm
from sides import DTYPES, build, machine, words

PROMPT = words(64)
SETTLED_TOKENS = 120
"""Spoken before the first run: by then drift has been seen."""


async def tokens_of(founding: Founding, count: int) -> float:
    """Tokens a second of one greedy answer, from its first token on."""
    owner, model = founding.node.owner, founding.opened.model
    session = await owner.open(model, Sampling(), len(PROMPT), len(PROMPT) + count)
    try:
        at_s = [time.perf_counter() async for _ in speak(session, PROMPT, count)]
    finally:
        owner.close(session)
    return (len(at_s) - 1) / (at_s[-1] - at_s[0])


def predicted(founding: Founding, tokens: int) -> float:
    """Tokens a second that the swarm's own figures give for the only route there is."""
    node, model = founding.node, founding.opened.model
    cost = Cost(model.bytes_per_weight, model.bytes_per_kv, context=len(PROMPT) + tokens // 2)
    held = [
        Stage(record.peer, holding.span)
        for record in node.directory.swarm.peers.values()
        for holding in record.holdings
        if holding.state == "ready"
    ]
    route = Route(tuple(sorted(held, key=lambda stage: stage.span.first)))
    return 1 / route_s(node.directory.swarm, model.spec, node.peer, route, cost)


async def case(
    folder: Path, opened: Opened, name: str, count: int, chosen: argparse.Namespace
) -> str:
    told, found = [], []
    spans = even_cuts(len(opened.model.spec.layers), count)
    async with swarm(folder / name, opened, spans) as (founding, peers):
        last = peers[-1].process.pid
        with slowed(last) if name == "half" else contextlib.nullcontext():
            await tokens_of(founding, SETTLED_TOKENS)
            for _ in range(chosen.runs):
                told.append(predicted(founding, chosen.tokens))
                found.append(await tokens_of(founding, chosen.tokens))
    off = [abs(one / other - 1) for one, other in zip(told, found, strict=True)]
    return (
        f"| {name} | {chosen.dtype} | {statistics.median(told):.2f} "
        f"| {statistics.median(found):.2f} | {statistics.median(off):.1%} | {max(off):.1%} "
        f"| {chosen.runs} x {chosen.tokens} | {machine()} |"
    )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    transformers.utils.logging.disable_progress_bar()
    show(
        "| peers | dtype | predicted, tok/s | measured, tok/s | off at the median | at most | runs "
        "| machine |\n|" + "---|" * 8
    )
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as homes:
        build(Path(made), DTYPES[chosen.dtype], chosen.small)
        opened = open_model(made, SETTINGS, engine="torch", dtype=chosen.dtype)
        cases = [(str(count), count) for count in chosen.peers] + [("half", 2)]
        for name, count in cases:
            show(asyncio.run(case(Path(homes), opened, name, count, chosen)))


if __name__ == "__main__":
    main(sys.argv[1:])
