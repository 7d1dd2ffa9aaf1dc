"""Decoding speed of one process: our torch engine beside transformers, same weights, same run.

    python benchmarks/decode.py [--dtypes bf16 fp32] [--rounds 5] [--tokens 16] [--threads 1]

Builds a random Llama in a temporary folder, then takes turns: ours, transformers with sdpa,
transformers with eager attention, a few tokens each. transformers is called as a bare forward with
its own cache, without `generate`, which would only add to it. Prints one markdown row a dtype:
medians over the rounds, and the ratio to the better of the two.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import transformers

from manyhands.domain.ids import SessionId
from manyhands.domain.work import Sampling, Want
from manyhands.engine import torch_blocks
from manyhands.engine.engine import Chunk
from manyhands.engine.sampler import draw
from manyhands.store.checkpoint import Checkpoint

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
PROMPT = tuple(range(100, 164))


def build(folder: Path, dtype: torch.dtype, small: bool) -> None:
    """Write the random checkpoint: 443M parameters, or a toy to try the script with."""
    config = transformers.LlamaConfig(
        vocab_size=32000,
        hidden_size=128 if small else 1024,
        intermediate_size=256 if small else 4096,
        num_hidden_layers=2 if small else 24,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder)


def ours(folder: Path, dtype: str, threads: int) -> Iterator[int]:
    """Greedy tokens, one a step, from our engine and our sampler."""
    checkpoint = Checkpoint.open(folder)
    engine = torch_blocks.load(
        checkpoint.spec,
        checkpoint.spec.span,
        checkpoint.read,
        kv_bytes=2**30,
        dtype=dtype,
        threads=threads,
    )
    session = SessionId("0" * 32)
    engine.open(session, 4096)
    tokens, position, row = PROMPT, 0, len(PROMPT) - 1
    while True:
        out = engine.step([Chunk(session, position, tokens, None, (row,))])[0]
        position += len(tokens)
        scores = out.scores if out.scores is not None else np.empty((1, 1), np.float32)
        token = draw(scores[0], Sampling(), position, (), Want()).token or 0
        tokens, row = (token,), 0
        yield token


def theirs(folder: Path, dtype: str, attention: str) -> Iterator[int]:
    """Greedy tokens, one a step, from transformers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=DTYPES[dtype], attn_implementation=attention
    ).eval()
    cache = transformers.DynamicCache(config=model.config)
    tokens = torch.tensor([PROMPT])
    while True:
        with torch.inference_mode():
            out = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            tokens = out.logits[:, -1:].argmax(-1)
        yield int(tokens)


def seconds_a_token(stream: Iterator[int], count: int) -> float:
    """Wall time of the next `count` tokens, divided."""
    start = time.perf_counter()
    for _ in range(count):
        next(stream)
    return (time.perf_counter() - start) / count


def compare(folder: Path, dtype: str, rounds: int, tokens: int, threads: int) -> str:
    """One markdown row."""
    streams: dict[str, Iterator[int]] = {
        "ours": ours(folder, dtype, threads),
        "sdpa": theirs(folder, dtype, "sdpa"),
        "eager": theirs(folder, dtype, "eager"),
    }
    times: dict[str, list[float]] = {name: [] for name in streams}
    for stream in streams.values():
        seconds_a_token(stream, 4)
    for _ in range(rounds):
        for name, stream in streams.items():
            times[name].append(seconds_a_token(stream, tokens))
    rate = {name: 1 / statistics.median(values) for name, values in times.items()}
    ratios = [min(times["sdpa"][i], times["eager"][i]) / times["ours"][i] for i in range(rounds)]
    best = max(rate["sdpa"], rate["eager"])
    return (
        f"| {dtype} | {threads} | {rate['ours']:.2f} | {rate['sdpa']:.2f} | {rate['eager']:.2f} "
        f"| {rate['ours'] / best:.3f} ({min(ratios):.3f}–{max(ratios):.3f}) | {machine()} |"
    )


def machine() -> str:
    """CPU and versions, for the row."""
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return (
        f"{cpu}, {os.cpu_count()} cores; torch {torch.__version__}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}"
    )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtypes", nargs="+", default=["bf16", "fp32"], choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    transformers.logging.disable_progress_bar()
    show("| dtype | threads | ours tok/s | sdpa | eager | ratio to the better (range) | machine |")
    show("|---|---|---|---|---|---|---|")
    for dtype in chosen.dtypes:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), DTYPES[dtype], chosen.small)
            show(compare(Path(folder), dtype, chosen.rounds, chosen.tokens, chosen.threads))


if __name__ == "__main__":
    main(sys.argv[1:])
