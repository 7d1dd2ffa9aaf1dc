"""Speed of one process: our engines beside transformers, same weights, same run.

    python benchmarks/decode.py [--forms bf16 fp32 int8 int4] [--engines torch numpy] [--rounds 5]
                                [--tokens 16] [--threads 1 2] [--prompt 512] [--keep FOLDER]

Builds a random Llama in a temporary folder, converts it where the form is of integers, then takes
turns: ours, transformers with sdpa, transformers with eager attention, a prompt and a few tokens
each. transformers is called as a bare forward with its own cache, without `generate`, which would
only add to it; beside integers it computes in bf16. Prints one markdown row a form: medians over
the rounds of the median token, and the ratio to the better of the two; the same of the prompt. GB/s
are the bytes of our weights that a token reads.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import span_elements
from manyhands.domain.work import Sampling, Want
from manyhands.engine import numpy_blocks, torch_blocks
from manyhands.engine.engine import Chunk
from manyhands.engine.sampler import draw
from manyhands.node.conversion import convert
from manyhands.store.checkpoint import Checkpoint

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
FORMS = (*DTYPES, "int8", "int4")
LOADS = {"torch": torch_blocks.load, "numpy": numpy_blocks.load}


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


class Ours:
    """Greedy tokens from one of our engines and our sampler."""

    def __init__(self, folder: Path, engine: str, form: str, threads: int) -> None:
        checkpoint = Checkpoint.open(folder)
        options = {"dtype": form} if form in DTYPES and engine == "torch" else {}
        if engine == "torch" or form not in DTYPES:
            options["threads"] = threads
        self._engine = LOADS[engine](
            checkpoint.spec, checkpoint.spec.span, checkpoint.read, kv_bytes=2**30, **options
        )
        table = checkpoint.spec.layers[0].elements / span_elements(
            checkpoint.spec, checkpoint.spec.span
        )
        self.read_bytes = self._engine.weight_bytes * (1 - table)
        self._session, self._position = SessionId("0" * 32), 0
        self._engine.open(self._session, 4096)

    def read(self, prompt: tuple[int, ...]) -> int:
        """Forget all, take a prompt in; the token after it."""
        self._position = 0
        return self.token(prompt)

    def token(self, tokens: tuple[int, ...]) -> int:
        """The token after these."""
        chunk = Chunk(self._session, self._position, tokens, None, (len(tokens) - 1,))
        out = self._engine.step([chunk])[0]
        self._position += len(tokens)
        scores = out.scores if out.scores is not None else np.empty((1, 1), np.float32)
        return draw(scores[0], Sampling(), self._position, (), Want()).token or 0


class Theirs:
    """Greedy tokens from transformers."""

    def __init__(self, folder: Path, dtype: str, attention: str) -> None:
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], attn_implementation=attention
        ).eval()

    def read(self, prompt: tuple[int, ...]) -> int:
        """See Ours."""
        self._cache = transformers.DynamicCache(config=self._model.config)
        return self.token(prompt)

    def token(self, tokens: tuple[int, ...]) -> int:
        """See Ours."""
        given = torch.tensor([tokens])
        with torch.inference_mode():
            out = self._model(given, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
            return int(out.logits[0, -1].argmax())


def one_round(side: Ours | Theirs, prompt: tuple[int, ...], count: int) -> tuple[float, float]:
    """Seconds of the prompt, and of the median of the next `count` tokens."""
    start = time.perf_counter()
    token, times = side.read(prompt), []
    prompt_s = time.perf_counter() - start
    for _ in range(count):
        start = time.perf_counter()
        token = side.token((token,))
        times.append(time.perf_counter() - start)
    return prompt_s, statistics.median(times)


def compare(
    folder: Path, form: str, engine: str, rounds: int, tokens: int, threads: int, prompt: int
) -> str:
    """One markdown row."""
    torch.set_num_threads(threads)
    stored = folder / form
    if form not in DTYPES and not stored.exists():
        convert(Checkpoint.open(folder / "bf16"), form, stored, lambda _: None)
    plain, dtype = (folder / form, form) if form in DTYPES else (folder / "bf16", "bf16")
    sides = {
        "ours": Ours(stored, engine, form, threads),
        "sdpa": Theirs(plain, dtype, "sdpa"),
        "eager": Theirs(plain, dtype, "eager"),
    }
    text = tuple(100 + place % 30000 for place in range(prompt))
    for side in sides.values():
        one_round(side, text, 2)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(one_round(side, text, tokens))

    def figures(which: int, per: float) -> str:
        times = {name: [one[which] for one in some] for name, some in taken.items()}
        ratios = [
            min(times["sdpa"][i], times["eager"][i]) / times["ours"][i] for i in range(rounds)
        ]
        rate = {name: per / statistics.median(some) for name, some in times.items()}
        shown = " | ".join(f"{rate[name]:.1f}" for name in sides)
        return f"{shown} | {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"

    ours_s = statistics.median(one[1] for one in taken["ours"])
    gigabytes = sides["ours"].read_bytes / ours_s / 1e9
    decoding, reading = figures(1, 1), figures(0, prompt)
    return f"| {engine} {form} | {threads} | {decoding} | {gigabytes:.1f} | {reading} |"


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
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--engines", nargs="+", default=["torch"], choices=list(LOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--keep", default="", help="build the models here, once, and leave them")
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    transformers.logging.disable_progress_bar()
    show(
        "| engine | threads | ours tok/s | sdpa | eager | ratio to the better (range) | GB/s "
        "| ours prompt tok/s | sdpa | eager | ratio (range) |"
    )
    show("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.keep or temporary)
        for dtype in {form if form in DTYPES else "bf16" for form in chosen.forms}:
            if not (folder / dtype).exists():
                build(folder / dtype, DTYPES[dtype], chosen.small)
        for form in chosen.forms:
            for engine in chosen.engines:
                for threads in chosen.threads:
                    show(
                        compare(
                            folder, form, engine, chosen.rounds, chosen.tokens, threads,
                            chosen.prompt,
                        )
                    )  # fmt: skip
    show(f"\n{machine()}")


if __name__ == "__main__":
    main(sys.argv[1:])
