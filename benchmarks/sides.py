"""What benchmarks compare: one random model in our engines and in transformers, asked alike.

A side begins texts of so many tokens and speaks on, greedily. transformers is called as a bare
forward with its own cache, without `generate`, which would only add to it. Knows no tables.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import transformers

from clocks import Clock
from manyhands.domain.ids import SessionId
from manyhands.domain.sizes import span_elements
from manyhands.domain.work import Sampling, Want
from manyhands.engine import numpy_blocks, torch_blocks
from manyhands.engine.engine import Chunk
from manyhands.engine.sampler import draw
from manyhands.node.conversion import convert
from manyhands.store.checkpoint import Checkpoint

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
FORMS = ("fp32", "bf16", "int8", "int4")
LOADS = {"torch": torch_blocks.load, "numpy": numpy_blocks.load}
SPARE = 256
"""Tokens that a text may grow by."""

KV_BYTES = 2**30


def build(folder: Path, dtype: torch.dtype, small: bool, **other: int) -> None:
    """Write the random checkpoint: 443M parameters, or a toy to try a script with.

    `other` are keys of its config that shall have other values.
    """
    shape = {
        "vocab_size": 32000,
        "hidden_size": 128 if small else 1024,
        "intermediate_size": 256 if small else 4096,
        "num_hidden_layers": 2 if small else 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        **other,
    }
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**shape, tie_word_embeddings=False)
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder)


def plain_of(form: str) -> str:
    """The dtype that transformers computes in beside a form of ours."""
    return form if form in DTYPES else "bf16"


def stored(folder: Path, form: str, small: bool, **other: int) -> Path:
    """Where the model lies in a form; it is built or converted if it does not yet."""
    made = folder / form
    if not made.exists() and form in DTYPES:
        build(made, DTYPES[form], small, **other)
    elif not made.exists():
        plain = Checkpoint.open(stored(folder, plain_of(form), small, **other))
        convert(plain, form, made, lambda _: None)
    return made


class Text(Protocol):
    """Sessions of equal length that speak together."""

    def next(self) -> None:
        """One token more in each, the likeliest."""

    def back(self) -> None:
        """Forget what was spoken."""

    def close(self) -> None:
        """Free their memory."""


class Side(Protocol):
    """A model that can be asked."""

    def begin(self, sessions: int, tokens: int, chunk: int | None = None) -> Text:
        """Take so many tokens into each of so many new sessions: at once, or in chunks."""


def words(tokens: int) -> list[int]:
    """A prompt."""
    return [100 + place % 30000 for place in range(tokens)]


class Ours:
    """One of our engines, and our sampler. `read_bytes` are the weights that a token reads."""

    def __init__(self, folder: Path, engine: str, form: str, threads: int) -> None:
        checkpoint = Checkpoint.open(folder)
        options = {"dtype": form} if form in DTYPES and engine == "torch" else {}
        if engine == "torch" or form not in DTYPES:
            options["threads"] = threads
        self.spec = checkpoint.spec
        self._engine = LOADS[engine](
            self.spec, self.spec.span, checkpoint.read, kv_bytes=KV_BYTES, **options
        )
        table = self.spec.layers[0].elements / span_elements(self.spec, self.spec.span)
        self.read_bytes = self._engine.weight_bytes * (1 - table)
        self._numbers = count()

    def begin(self, sessions: int, tokens: int, chunk: int | None = None) -> _OurText:
        """See Side."""
        names = [SessionId(f"{next(self._numbers):032x}") for _ in range(sessions)]
        return _OurText(self._engine, names, tokens, chunk or tokens)


class _OurText:
    def __init__(
        self, engine: torch_blocks.Engine, names: Sequence[SessionId], tokens: int, chunk: int
    ) -> None:
        self._engine, self._names, self._start = engine, names, tokens
        self._position = 0
        for name in names:
            engine.open(name, tokens + SPARE)
        prompt = words(tokens)
        while self._position < tokens:
            part = prompt[self._position : min(self._position + chunk, tokens)]
            self._said = self._taken([part] * len(names))
        self._first = self._said

    def _taken(self, texts: Sequence[Sequence[int]]) -> list[int]:
        """The tokens after these."""
        long = len(texts[0])
        outputs = self._engine.step(
            [
                Chunk(name, self._position, tuple(text), None, (long - 1,))
                for name, text in zip(self._names, texts, strict=True)
            ]
        )
        self._position += long
        empty = np.empty((1, 1), np.float32)
        rows = [empty if output.scores is None else output.scores for output in outputs]
        return [draw(row[0], Sampling(), self._position, (), Want()).token or 0 for row in rows]

    def next(self) -> None:
        self._said = self._taken([[token] for token in self._said])

    def back(self) -> None:
        self._position, self._said = self._start, self._first

    def close(self) -> None:
        for name in self._names:
            self._engine.close(name)


class Theirs:
    """transformers, with `attention` sdpa or eager."""

    def __init__(self, folder: Path, dtype: str, attention: str) -> None:
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], attn_implementation=attention
        ).eval()

    def begin(self, sessions: int, tokens: int, chunk: int | None = None) -> _TheirText:
        """See Side."""
        return _TheirText(self._model, sessions, tokens, chunk or tokens)


class _TheirText:
    def __init__(
        self, model: transformers.PreTrainedModel, sessions: int, tokens: int, chunk: int
    ) -> None:
        self._model, self._start = model, tokens
        self._cache = transformers.DynamicCache(config=model.config)
        prompt = torch.tensor([words(tokens)] * sessions)
        for part in prompt.split(chunk, dim=1):
            self._said = self._taken(part)
        self._first = self._said

    def _taken(self, given: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            out = self._model(given, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
            return out.logits[:, -1].argmax(-1, keepdim=True)

    def next(self) -> None:
        self._said = self._taken(self._said)

    def back(self) -> None:
        self._cache.crop(self._start - self._cache.get_seq_length())
        self._said = self._first

    def close(self) -> None:
        self._cache = None


def seconds_to_begin(side: Side, sessions: int, tokens: int, clock: Clock) -> float:
    """Of the whole prompts, the first token of the answers included."""
    start = clock()
    text = side.begin(sessions, tokens)
    taken_s = clock() - start
    text.close()
    return taken_s


def seconds_a_token(text: Text, tokens: int, clock: Clock) -> float:
    """The median of so many tokens from where the text was begun."""
    times = []
    text.back()
    for _ in range(tokens):
        start = clock()
        text.next()
        times.append(clock() - start)
    return statistics.median(times)


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
