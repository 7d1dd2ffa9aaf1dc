"""How long a story stops when a process of its route is killed or frozen: real processes, sockets.

    python benchmarks/recovery.py [--kills 50] [--freezes 20] [--contexts 128 2000]
                                  [--engines numpy torch] [--small]

Three stages of a model the size of the storyteller, each held by two `hands join` processes with
keys of their own, so that a ready stand-in is there; the owner holds nothing. Measured is the time
from the call that kills (SIGKILL) or freezes (SIGSTOP) a stage, in turn, with so many tokens in its
memory, to the next token at the owner. A killed process is replaced before the next turn, a frozen
one thawed. Prints one markdown row a case, and whether all texts were those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cryptography
import numpy as np

from manyhands.cli.words import device_here
from manyhands.domain.ids import PeerId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.domain.work import Sampling
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.local import LocalPeer, LocalPeers
from manyhands.node.generate import speak
from manyhands.node.opened import Opened, open_model
from manyhands.node.session import Session
from manyhands.store.builtin import storyteller_folder
from manyhands.store.home import Home

STAGES, HOLDERS = 3, 2
BEFORE, AFTER = 8, 8
"""Tokens spoken before a stage is struck, and after it."""

READY_S = 120.0


def build(folder: Path) -> None:
    """Write a random model of the storyteller's shape, with room for 4096 tokens."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(storyteller_folder())
    config.max_position_embeddings = 4096
    config.initializer_range = 0.2  # scores of different tokens are far apart
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)


@dataclass(frozen=True, slots=True)
class Struck:
    """Seconds from the blow to the next token, of these from noticing to ready; the text; whom."""

    took_s: float
    ready_s: float
    tokens: list[int]
    victim: LocalPeer


class Swarm:
    """A founder that only asks, and processes that hold spans, `HOLDERS` each."""

    def __init__(self, founding: Founding, peers: LocalPeers) -> None:
        self.founding, self.peers = founding, peers
        self.spans = even_cuts(len(founding.opened.model.spec.layers), STAGES)
        self._span_of: dict[int, Span] = {}

    async def add(self, span: Span) -> LocalPeer:
        """Start a process that holds `span`."""
        founding = self.founding
        peer = await self.peers.start(
            founding.door, founding.founder.invite(), founding.opened.folder, span
        )
        self._span_of[peer.number] = span
        return peer

    async def settled(self) -> None:
        """Return once all processes that run are ready, known to the owner, and to each other."""
        directory = self.founding.node.directory
        for peer in self.peers.alive():
            await peer.ready(READY_S)
        names = {PeerId(peer.told["peer"]) for peer in self.peers.alive()}
        async with asyncio.timeout(READY_S):
            while not names <= {
                name
                for name, record in directory.swarm.peers.items()
                if any(held.state == "ready" for held in record.holdings)
            }:
                await directory.changed()
        await asyncio.sleep(0.5)

    async def open(self, prompt: Sequence[int]) -> Session:
        """A greedy one."""
        model, owner = self.founding.opened.model, self.founding.node.owner
        return await owner.open(model, Sampling(), len(prompt), len(prompt) + BEFORE + AFTER)

    def at(self, session: Session, stage: int) -> LocalPeer:
        """The process that stands at a stage."""
        name = session.ring.route.stages[stage].peer
        return next(peer for peer in self.peers.peers if peer.told.get("peer") == name)

    def span_of(self, peer: LocalPeer) -> Span:
        """What a process was started with."""
        return self._span_of[peer.number]


@contextlib.asynccontextmanager
async def swarm(opened: Opened) -> AsyncIterator[Swarm]:
    """All processes ready."""
    with tempfile.TemporaryDirectory() as folder, Home(Path(folder) / "owner") as home:
        owner = found_swarm(home, opened, device_here(None), Settings(), Ports(), holds=False)
        async with owner as founding, LocalPeers(Path(folder), STAGES) as peers:
            made = Swarm(founding, peers)
            for span in made.spans * HOLDERS:
                await made.add(span)
            await made.settled()
            yield made


async def strike(
    made: Swarm, prompt: Sequence[int], stage: int, hit: Callable[[LocalPeer], None] | None
) -> Struck:
    """One answer, whose `stage` is hit after `BEFORE` tokens; None hits nobody."""
    session = await made.open(prompt)
    victim = made.at(session, stage)
    recovered_s, tokens, struck_s, took_s = session.recovery.recovered_s, [], 0.0, 0.0
    try:
        async for token in speak(session, prompt, BEFORE + AFTER):
            if recovered_s and not took_s:
                took_s = time.perf_counter() - struck_s
            tokens.append(token.id)
            if len(tokens) == BEFORE and hit is not None:
                struck_s = time.perf_counter()
                hit(victim)
    finally:
        made.founding.node.owner.close(session)
    return Struck(took_s, sum(recovered_s), tokens, victim)


async def measure(
    made: Swarm, context: int, kills: int, freezes: int
) -> tuple[list[int], dict[str, list[Struck]]]:
    """The undisturbed text, and by kind of loss what happened."""
    size = made.founding.opened.model.spec.vocabulary - 3
    prompt = [3 + 7919 * n % size for n in range(context - BEFORE)]
    text = (await strike(made, prompt, 0, None)).tokens
    found: dict[str, list[Struck]] = {"SIGKILL": [], "SIGSTOP": []}
    for kind, count in (("SIGKILL", kills), ("SIGSTOP", freezes)):
        for turn in range(count):
            hit = LocalPeer.kill if kind == "SIGKILL" else LocalPeer.freeze
            struck = await strike(made, prompt, turn % STAGES, hit)
            found[kind].append(struck)
            if kind == "SIGKILL":
                await made.add(made.span_of(struck.victim))
            else:
                struck.victim.thaw()
            await made.settled()
    return text, found


def row(engine: str, context: int, kind: str, text: list[int], found: list[Struck]) -> str:
    """One markdown row."""
    times_s = [struck.took_s for struck in found]
    parts = statistics.quantiles(times_s, n=100, method="inclusive")
    p50, p95, p99 = (f"{parts[n - 1]:.3f}" for n in (50, 95, 99))
    ready = statistics.median(struck.ready_s for struck in found)
    same = sum(struck.tokens == text for struck in found)
    return (
        f"| {engine} | {context} | {kind} | {len(times_s)} | {p50} | {p95} | {p99} "
        f"| {max(times_s):.3f} | {ready:.3f} | {same} |"
    )


def machine() -> str:
    """CPU and versions."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}; Python "
        f"{platform.python_version()}, numpy {np.__version__}, cryptography "
        f"{cryptography.__version__}"
    )


async def run(chosen: argparse.Namespace, show: Callable[[str], None]) -> None:
    for engine in chosen.engines:
        for context in chosen.contexts:
            with tempfile.TemporaryDirectory() as folder:
                model = storyteller_folder()
                if context > 1000:
                    model = Path(folder)
                    build(model)
                opened = open_model(model, Settings(), engine=engine)
                async with swarm(opened) as made:
                    text, found = await measure(made, context, chosen.kills, chosen.freezes)
                for kind, several in found.items():
                    if len(several) > 1:
                        show(row(opened.model.profile.kernels, context, kind, text, several))


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--freezes", type=int, default=20)
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 2000])
    parser.add_argument("--engines", nargs="+", default=["numpy", "torch"])
    parser.add_argument("--small", action="store_true", help="few turns: tries the script only")
    chosen = parser.parse_args(arguments)
    if chosen.small:
        chosen.kills, chosen.freezes = 3, 2
    show(
        "| engine | tokens in memory | loss | times | p50 s | p95 | p99 | most "
        "| of it noticed to ready, p50 | same text |\n|" + "---|" * 10
    )
    asyncio.run(run(chosen, show))
    show(f"\n{machine()}")


if __name__ == "__main__":
    main(sys.argv[1:])
