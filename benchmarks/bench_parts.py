"""What `bench.py` measures, part by part: each lets every side have its turn once a round."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers

import llama_cpp
from clocks import Clock
from figures import Figure
from manyhands.domain.ids import SessionId
from manyhands.domain.sizes import span_kv_elements
from manyhands.domain.span import Span
from manyhands.engine.choice import choose
from manyhands.engine.engine import Chunk
from manyhands.store.checkpoint import Checkpoint
from read_memory import BYTES, Memory
from sides import (
    DTYPES,
    LOADS,
    Ours,
    Side,
    Theirs,
    plain_of,
    seconds_a_token,
    seconds_to_begin,
    stored,
)

NEAR = 16
"""Tokens before those that are counted, where context shall cost nothing."""

FAR, CHUNK = 8192, 512
PROMPTS, SESSIONS = (512, 2048), (1, 8, 32)
SMALLER = 32
"""What contexts and prompts are divided by to try the script."""

DEEP_FORMS = ("bf16", "int8")
"""Keys and values are 16 bits with both; weights, beside which they are read, half as many."""

NARROW = {
    "vocab_size": 256, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 24,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
"""Of the model whose blocks are so small that only what is fixed counts."""

NARROW_STEPS = 50
Works = Mapping[str, Callable[[], float]]


@dataclass
class Run:
    """What was asked for, where models lie, and what was measured so far."""

    chosen: argparse.Namespace
    folder: Path
    clock: Clock
    figures: list[Figure] = field(default_factory=list)
    _theirs: dict[str, dict[str, Side]] = field(default_factory=dict)

    @property
    def fewer_rounds(self) -> int:
        """For what takes long."""
        return -(-self.chosen.rounds // 2)

    def stored(self, form: str) -> Path:
        """Where the model lies in a form."""
        return stored(self.folder, form, self.chosen.small, max_position_embeddings=2 * FAR)

    def sides(self, form: str, threads: int) -> dict[str, Side]:
        """Ours and transformers', who are kept for the next form with the same dtype."""
        dtype = plain_of(form)
        if dtype not in self._theirs:
            self._theirs.clear()
            folder = self.stored(dtype)
            self._theirs[dtype] = {name: Theirs(folder, dtype, name) for name in ("sdpa", "eager")}
        return {"ours": Ours(self.stored(form), "torch", form, threads), **self._theirs[dtype]}

    def llama(self, form: str, threads: int) -> llama_cpp.LlamaCpp | None:
        """llama.cpp with the same weights, where it is."""
        if llama_cpp.missing():
            return None
        file = self.folder / f"{form}.gguf"
        if not file.exists():
            llama_cpp.write(self.stored(plain_of(form)), form, file)
        return llama_cpp.LlamaCpp(file, threads)

    def memory(self, threads: int) -> Memory:
        """What reads as much as this machine can."""
        return Memory(threads, BYTES // SMALLER if self.chosen.small else BYTES)

    def turns(
        self,
        part: str,
        form: str,
        threads: int,
        case: int,
        works: Works,
        units: Mapping[str, str],
        rounds: int = 0,
    ) -> None:
        """Let every work measure once a round (0: as many as chosen); `units` are not seconds."""
        sys.stderr.write(f"{part}: {form}, {threads} threads, {case}\n")
        values: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(rounds or self.chosen.rounds):
            for name, work in works.items():
                values[name].append(work())
        self.figures += [
            Figure(part, form, threads, case, name, units.get(name, "s"), tuple(some))
            for name, some in values.items()
        ]


def decode(run: Run, form: str, threads: int, sides: dict[str, Side]) -> None:
    tokens, memory, llama = run.chosen.tokens, run.memory(threads), run.llama(form, threads)
    texts = {name: side.begin(1, NEAR) for name, side in sides.items()}
    for text in texts.values():
        seconds_a_token(text, 2, run.clock)
    works: dict[str, Callable[[], float]] = {"reading": lambda: memory.bytes_per_s(run.clock)}
    for name, text in texts.items():
        works[name] = lambda text=text: seconds_a_token(text, tokens, run.clock)
    if llama is not None:
        works["llama.cpp"] = lambda: llama.token_s(tokens)
    run.turns("decode", form, threads, NEAR, works, {"reading": "bytes/s"})
    read = (sides["ours"].read_bytes,)
    run.figures.append(Figure("decode", form, threads, NEAR, "weights", "bytes", read))
    for text in texts.values():
        text.close()


def prefill(run: Run, form: str, threads: int, sides: dict[str, Side]) -> None:
    llama = run.llama(form, threads)
    for length in PROMPTS:
        tokens = length // SMALLER if run.chosen.small else length
        works: dict[str, Callable[[], float]] = {
            name: lambda side=side, tokens=tokens: seconds_to_begin(side, 1, tokens, run.clock)
            for name, side in sides.items()
        }
        if llama is not None:
            works["llama.cpp"] = lambda tokens=tokens: llama.prompt_s(tokens)
        for side in sides.values():
            seconds_to_begin(side, 1, NEAR, run.clock)
        rounds = run.chosen.rounds if length < PROMPTS[-1] else run.fewer_rounds
        run.turns("prefill", form, threads, tokens, works, {}, rounds)


def batch(run: Run, form: str, threads: int, sides: dict[str, Side]) -> None:
    tokens = max(2, run.chosen.tokens // 2)
    for sessions in SESSIONS:
        texts = {name: side.begin(sessions, NEAR) for name, side in sides.items()}
        for text in texts.values():
            seconds_a_token(text, 1, run.clock)
        works = {
            name: lambda text=text: seconds_a_token(text, tokens, run.clock)
            for name, text in texts.items()
        }
        run.turns("batch", form, threads, sessions, works, {})
        for text in texts.values():
            text.close()


def context(run: Run, form: str, threads: int, sides: dict[str, Side]) -> None:
    tokens, memory = max(2, run.chosen.tokens // 2), run.memory(threads)
    far = FAR // SMALLER if run.chosen.small else FAR
    works: dict[str, Callable[[], float]] = {"reading": lambda: memory.bytes_per_s(run.clock)}
    texts = {
        f"{name} {where}": sides[name].begin(1, before, CHUNK)
        for name in ("ours", "sdpa")
        for where, before in (("near", NEAR), ("far", far))
    }
    for name, text in texts.items():
        seconds_a_token(text, 1, run.clock)
        works[name] = lambda text=text: seconds_a_token(text, tokens, run.clock)
    run.turns("context", form, threads, far, works, {"reading": "bytes/s"})
    checkpoint = Checkpoint.open(run.stored(form))
    spec = checkpoint.spec
    numbers = span_kv_elements(spec, spec.span) * (far - NEAR)
    kind = choose("torch", form, threads, spec, checkpoint.read)
    for name, each in (("ours", kind.bytes_per_kv), ("sdpa", DTYPES[plain_of(form)].itemsize)):
        run.figures.append(
            Figure("context", form, threads, far, f"{name} kv", "bytes", (numbers * each,))
        )
    for text in texts.values():
        text.close()


def memory(run: Run, form: str) -> None:
    """Of children: this process has long held other models. Only Linux tells."""
    if not Path("/proc/self/status").exists():
        sys.stderr.write("memory: left out, this system does not tell it\n")
        return
    asked = {"ours": (run.stored(form), form)}
    if form in DTYPES:
        asked["sdpa"] = (run.stored(form), form)
    told: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
    sys.stderr.write(f"memory: {form}\n")
    for _ in range(run.fewer_rounds):
        for name, (folder, dtype) in asked.items():
            script = Path(__file__).parent / "load_memory.py"
            words = [sys.executable, str(script), str(folder), dtype, name]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            told[name].append(json.loads(done.stdout.splitlines()[-1]))
    units = {"load_s": "s", "first_s": "s", "before": "bytes", "loaded": "bytes", "peak": "bytes"}
    for name, rounds in told.items():
        for key, unit in units.items():
            values = tuple(one[key] for one in rounds)
            run.figures.append(Figure("memory", form, 1, 0, f"{name} {key}", unit, values))
    files = sum(file.stat().st_size for file in run.stored(form).glob("*.safetensors"))
    run.figures.append(Figure("memory", form, 1, 0, "file", "bytes", (files,)))


def overhead(run: Run, form: str) -> None:
    torch.set_num_threads(1)
    folder, blocks = run.folder / "narrow", NARROW["num_hidden_layers"]
    checkpoint = Checkpoint.open(stored(folder, form, run.chosen.small, **NARROW))
    options = {"dtype": form} if form in DTYPES else {}
    span, session = Span(1, 1 + blocks), SessionId("0" * 32)
    engine = LOADS["torch"](
        checkpoint.spec, span, checkpoint.read, kv_bytes=2**24, threads=1, **options
    )
    engine.open(session, NARROW_STEPS)
    hidden = np.ones((1, checkpoint.spec.width), np.float32)

    def ours() -> float:
        start = time.process_time()
        for place in range(NARROW_STEPS):
            engine.step([Chunk(session, place, (1,), hidden, ())])
        return (time.process_time() - start) / NARROW_STEPS / blocks * 1e6

    def theirs(attention: str) -> Callable[[], float]:
        dtype = plain_of(form)
        model = transformers.LlamaForCausalLM.from_pretrained(
            stored(folder, dtype, run.chosen.small, **NARROW), dtype=DTYPES[dtype],
            attn_implementation=attention,
        ).eval().model  # fmt: skip
        given = torch.ones(1, 1, NARROW["hidden_size"], dtype=DTYPES[dtype])

        def work() -> float:
            cache = transformers.DynamicCache(config=model.config)
            with torch.inference_mode():
                start = time.process_time()
                for _ in range(NARROW_STEPS):
                    model(inputs_embeds=given, past_key_values=cache, use_cache=True)
                return (time.process_time() - start) / NARROW_STEPS / blocks * 1e6

        return work

    works = {"ours": ours, "sdpa": theirs("sdpa"), "eager": theirs("eager")}
    for work in works.values():
        work()
    run.turns("overhead", form, 1, NARROW["hidden_size"], works, dict.fromkeys(works, "µs"))


ASKED = {"decode": decode, "prefill": prefill, "batch": batch, "context": context}
ALONE = {"memory": memory, "overhead": overhead}


def measure(run: Run) -> None:
    """Every part that was chosen."""
    chosen, most = run.chosen, max(run.chosen.threads)
    for form in chosen.forms:
        for part in chosen.only:
            if part in ALONE:
                ALONE[part](run, form)
        for threads in chosen.threads:
            parts = [
                part for part in chosen.only
                if part in ASKED and (part == "decode" or threads == most)
                and (part != "context" or form in DEEP_FORMS)
            ]  # fmt: skip
            if parts:
                torch.set_num_threads(threads)
                sides = run.sides(form, threads)
                for part in parts:
                    ASKED[part](run, form, threads, sides)
