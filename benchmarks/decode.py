"""Speed of one process: our engines beside transformers, same weights, same run.

    python benchmarks/decode.py [--forms bf16 fp32 int8 int4] [--engines torch numpy] [--rounds 5]
                                [--tokens 16] [--threads 1 2] [--prompt 512] [--clock cpu]
                                [--keep FOLDER]

Builds a random Llama in a temporary folder, converts it where the form is of integers, then takes
turns: ours, transformers with sdpa, transformers with eager attention, a prompt and a few tokens
each. Beside integers transformers computes in bf16. Prints one markdown row a form: medians over
the rounds of the median token, and the ratio to the better of the two; the same of the prompt. GB/s
are the bytes of our weights that a token reads. `bench.py` measures more, for the torch engine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from clocks import Clock, add_clock, clock_of
from sides import (
    FORMS,
    LOADS,
    Ours,
    Side,
    Theirs,
    machine,
    plain_of,
    seconds_a_token,
    stored,
)


def one_round(side: Side, prompt: int, tokens: int, clock: Clock) -> tuple[float, float]:
    """Seconds of the prompt, and of the median of the next `tokens` tokens."""
    start = clock()
    text = side.begin(1, prompt)
    prompt_s = clock() - start
    token_s = seconds_a_token(text, tokens, clock)
    text.close()
    return prompt_s, token_s


def compare(
    folder: Path, form: str, engine: str, threads: int, clock: Clock, chosen: argparse.Namespace
) -> str:
    """One markdown row."""
    torch.set_num_threads(threads)
    dtype = plain_of(form)
    plain = stored(folder, dtype, chosen.small)
    sides = {
        "ours": Ours(stored(folder, form, chosen.small), engine, form, threads),
        "sdpa": Theirs(plain, dtype, "sdpa"),
        "eager": Theirs(plain, dtype, "eager"),
    }
    for side in sides.values():
        one_round(side, chosen.prompt, 2, clock)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(chosen.rounds):
        for name, side in sides.items():
            taken[name].append(one_round(side, chosen.prompt, chosen.tokens, clock))

    def figures(which: int, per: float) -> str:
        times = {name: [one[which] for one in some] for name, some in taken.items()}
        ratios = [
            min(sdpa, eager) / ours
            for ours, sdpa, eager in zip(times["ours"], times["sdpa"], times["eager"], strict=True)
        ]
        rate = {name: per / statistics.median(some) for name, some in times.items()}
        shown = " | ".join(f"{rate[name]:.1f}" for name in sides)
        return f"{shown} | {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"

    ours_s = statistics.median(one[1] for one in taken["ours"])
    gigabytes = sides["ours"].read_bytes / ours_s / 1e9
    decoding, reading = figures(1, 1), figures(0, chosen.prompt)
    return f"| {engine} {form} | {threads} | {decoding} | {gigabytes:.1f} | {reading} |"


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--engines", nargs="+", default=["torch"], choices=list(LOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    add_clock(parser)
    parser.add_argument("--keep", default="", help="build the models here, once, and leave them")
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    clock = clock_of(parser, chosen.clock, chosen.threads)
    transformers.logging.disable_progress_bar()
    show(
        "| engine | threads | ours tok/s | sdpa | eager | ratio to the better (range) | GB/s "
        "| ours prompt tok/s | sdpa | eager | ratio (range) |"
    )
    show("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.keep or temporary)
        for form in chosen.forms:
            for engine in chosen.engines:
                for threads in chosen.threads:
                    show(compare(folder, form, engine, threads, clock, chosen))
    show(f"\n{machine()}")


if __name__ == "__main__":
    main(sys.argv[1:])
