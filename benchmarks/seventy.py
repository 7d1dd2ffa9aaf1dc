"""A model as large as Llama-3-70B in int4, over eight peers of 5 GiB: planned, loaded, answering.

    python benchmarks/seventy.py [--peers 8] [--memory 5GiB] [--blocks 80] [--tokens 6] [--runs 3]
                                 [--one]

The weights are invented. The folder holds one block, the embedding and the head; the other blocks'
files are links to that block's, so disk and page cache hold it once, while each peer maps, counts
and reads all of its own: 38.5 GB of blocks a token. `hands join` processes of one thread with a
memory limit choose their layers by themselves; the asker is one more peer of the same limit. Told
beside each other: the memory planned for a peer and what its process then holds (resident, mapped
files counted), tokens a second counted from the swarm's own figures before each answer and
measured, and the text of one process that holds everything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from manyhands.cli.words import cost_of, device_here, planned_tokens
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.stored_parts import stored_parts
from manyhands.domain.weight_format import METHOD, VERSION, converted, dtype_of
from manyhands.domain.work import Sampling
from manyhands.families.family import model_spec
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.local import LocalPeers
from manyhands.node.generate import speak
from manyhands.node.live import until_covered
from manyhands.node.opened import Opened, open_model
from manyhands.plan.cost import memory_bytes
from manyhands.plan.routing import route, route_s
from manyhands.plan.share import most_from
from manyhands.store.home import Home
from manyhands.store.weight_files import layer_file
from manyhands.store.weight_writer import Planned, new_folder, write_weights
from sides import machine

SHAPE = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128_256,
    "hidden_size": 8192, "intermediate_size": 28_672, "num_attention_heads": 64,
    "num_key_value_heads": 8, "max_position_embeddings": 384, "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0, "eos_token_id": 128_001, "tie_word_embeddings": False,
}  # fmt: skip
"""Llama-3-70B's, but for the context: 10 blocks and 384 tokens' memory are 90 % of 5 GiB."""

SMALL = {"vocab_size": 512, "hidden_size": 256, "intermediate_size": 512,
         "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": 1}  # fmt: skip
PROMPT = tuple(range(300, 332))
SETTINGS = Settings(kv_bytes=2**26)
READY_S = 600.0
PIECE_BYTES = 2**24
SCALE = 0.01
"""Of every block of weights: some noise, so that no two tokens score alike."""


def invent(folder: Path, blocks: int, small: bool) -> None:
    """Write the folder: layers 0, 1 and the last, and links to layer 1."""
    config = {**SHAPE, **(SMALL if small else {}), "num_hidden_layers": blocks}
    spec = converted(model_spec(config), "int4")
    last = len(spec.layers) - 1
    chance = random.Random(0)
    plan = {layer_file(layer): _planned(spec, layer) for layer in (0, 1, last)}
    with new_folder(folder) as made:
        write_weights(made, plan, (_bytes(one, chance) for some in plan.values() for one in some))
        for layer in range(2, last):
            os.link(made / layer_file(1), made / layer_file(layer))
        told = {"quant_method": METHOD, "version": VERSION, "format": "int4"}
        text = json.dumps({**config, "quantization_config": told})
        (made / "config.json").write_text(text, encoding="utf-8")


def _planned(spec: ModelSpec, layer: int) -> list[Planned]:
    """Codes, then scales, then norms, as a converted folder has them."""
    found = [
        Planned(part.names[0].removeprefix(f"{layer}."), dtype_of(source, part) or "BF16",
                part.shape)
        for source in spec.layers[layer].tensors.values()
        for part in stored_parts(source)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.dtype != "U8", not one.name.endswith(".scales")))


def _bytes(planned: Planned, chance: random.Random) -> Iterator[memoryview]:
    left = planned.size_bytes
    value = np.float32(SCALE / 16 if planned.name.endswith(".scales") else 1.0)
    same = np.full(PIECE_BYTES // 2, value.view(np.uint32) >> 16, np.uint16).view(np.uint8).data
    while left > 0:
        size = min(left, PIECE_BYTES)
        yield memoryview(chance.randbytes(size)) if planned.dtype == "U8" else same[:size]
        left -= size


@asynccontextmanager
async def swarm(
    folder: Path, opened: Opened, chosen: argparse.Namespace
) -> AsyncIterator[tuple[Founding, LocalPeers]]:
    """The asker with what fits beside it, and peers that take what is left, one after the other."""
    here = device_here(chosen.memory)
    cost, tokens = cost_of(opened.model), planned_tokens(opened.model, SETTINGS)
    with Home(folder / "owner") as home:
        async with (
            found_swarm(home, opened, here, SETTINGS, Ports()) as founding,
            LocalPeers(folder, chosen.peers) as peers,
        ):
            mine = most_from(opened.model.spec, 0, here, tokens, cost)
            if mine is not None:
                await founding.hold(mine)
            for _ in range(chosen.peers):
                invite = founding.founder.invite()
                peer = await peers.start(
                    founding.door, invite, opened.folder, None, "--max-memory", chosen.memory,
                    "--threads", str(chosen.threads),
                )  # fmt: skip
                await peer.ready(READY_S)
            await until_covered(founding.node, opened.model, READY_S)
            yield founding, peers


async def text_of(founding: Founding, count: int) -> tuple[list[int], float]:
    """Tokens of a greedy answer, and how many a second after the first."""
    owner, model = founding.node.owner, founding.opened.model
    session = await owner.open(model, Sampling(), len(PROMPT), len(PROMPT) + count)
    said, at_s = [], []
    try:
        async for token in speak(session, PROMPT, count):
            said.append(token.id)
            at_s.append(time.perf_counter())
    finally:
        owner.close(session)
    return said, (len(at_s) - 1) / (at_s[-1] - at_s[0])


def counted(founding: Founding, tokens: int) -> float:
    """Tokens a second that the swarm's own figures give for the quickest route."""
    node, model = founding.node, founding.opened.model
    cost = replace(cost_of(model), context=len(PROMPT) + tokens // 2)
    swarm = node.directory.swarm
    found = route(swarm, model.spec, model.id, node.peer, cost)
    return 1 / route_s(swarm, model.spec, node.peer, found, cost)


def held_bytes(opened: Opened, pid: int, span: Span) -> tuple[int, int]:
    """(planned for a span with memory for all tokens, resident in the process that holds it)."""
    cost, tokens = cost_of(opened.model), planned_tokens(opened.model, SETTINGS)
    return memory_bytes(opened.model.spec, span, tokens, cost), psutil.Process(
        pid
    ).memory_info().rss


async def measure(folder: Path, chosen: argparse.Namespace, show: Callable[[str], None]) -> None:
    opened = open_model(folder / "model", SETTINGS, threads=chosen.threads)
    began_s = time.perf_counter()
    async with swarm(folder, opened, chosen) as (founding, peers):
        show(f"ready after {time.perf_counter() - began_s:.0f} s")
        await text_of(founding, 2)
        told, found, texts = [], [], []
        for _ in range(chosen.runs):
            told.append(counted(founding, chosen.tokens))
            text, rate = await text_of(founding, chosen.tokens)
            found.append(rate)
            texts.append(text)
        spans = [
            (peer.process.pid, Span(peer.told["first"], peer.told["last"])) for peer in peers.peers
        ]
        sizes = [held_bytes(opened, pid, span) for pid, span in spans]
        for (_, span), (planned, resident) in zip(spans, sizes, strict=True):
            show(f"peer {span}: {planned / 1e9:.2f} GB planned, {resident / 1e9:.2f} GB resident")
    off = [abs(one / other - 1) for one, other in zip(told, found, strict=True)]
    wrong = [abs(resident / planned - 1) for planned, resident in sizes]
    show(
        f"| {chosen.blocks} blocks, {len(sizes)} peers of {chosen.memory} "
        f"| {max(resident for _, resident in sizes) / 1e9:.2f} GB "
        f"| {statistics.median(wrong):.1%} ({max(wrong):.1%}) "
        f"| {statistics.median(told):.3f} | {statistics.median(found):.3f} "
        f"| {statistics.median(off):.1%} | {len({tuple(text) for text in texts})} text "
        f"| {machine()} |"
    )
    if chosen.one:
        is_same = await alone(folder, opened, chosen) == texts[0]
        show(f"one process says the same: {is_same}")
        if not is_same:
            sys.exit("the texts differ")


async def alone(folder: Path, opened: Opened, chosen: argparse.Namespace) -> list[int]:
    """The text of one process that holds all of the model; links take its memory but once."""
    with Home(folder / "alone") as home:
        async with found_swarm(
            home, opened, replace(device_here(None), memory_bytes=10**12), SETTINGS, Ports()
        ) as founding:
            await founding.hold(opened.model.spec.span)
            return (await text_of(founding, chosen.tokens))[0]


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--memory", default="5GiB")
    parser.add_argument("--blocks", type=int, default=80)
    parser.add_argument("--tokens", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", action="store_true", help="one process's text beside it")
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    show(
        "| model | most resident | off the plan at the median (most) | predicted, tok/s "
        "| measured, tok/s | off at the median | texts | machine |\n|" + "---|" * 8
    )
    with tempfile.TemporaryDirectory() as folder:
        invent(Path(folder) / "model", chosen.blocks, chosen.small)
        asyncio.run(measure(Path(folder), chosen, show))


if __name__ == "__main__":
    main(sys.argv[1:])
