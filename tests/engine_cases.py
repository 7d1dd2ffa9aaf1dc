"""Real engines for the tests of engine/: those that must agree, and stages in a row.

stages = Stages(load, spec, weights, cuts)     # one engine a span, called one after the other
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.engine import numpy_blocks, torch_blocks
from manyhands.engine.engine import Chunk, Engine, Weights

LOADS = {"numpy": numpy_blocks.load, "torch": torch_blocks.load}
"""Every engine that must agree with transformers in float32."""

KV_BYTES = 1 << 24

HAS_NUMBA = importlib.util.find_spec("numba") is not None
"""Where it is, kernels must serve: a test that skipped when they fail would hide it."""


def session(number: int) -> SessionId:
    return SessionId(f"{number:032x}")


def shared_bytes() -> int:
    """Bytes of files in memory that this process holds: its heap comes and goes beside them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssShmem"))


class Stages:
    """Engines over touching spans, as a route would call them."""

    def __init__(
        self, load: Callable[..., Engine], spec: ModelSpec, weights: Weights, cuts: Sequence[int]
    ) -> None:
        ends = [0, *cuts, len(spec.layers)]
        self.engines = [
            load(spec, Span(a, b), weights, kv_bytes=KV_BYTES) for a, b in pairwise(ends)
        ]

    def open(
        self, name: SessionId, limit: int, parent: SessionId | None = None, at: int = 0
    ) -> None:
        for engine in self.engines:
            engine.open(name, limit, parent, at)

    def step(self, *parts: tuple[SessionId, int, Sequence[int]]) -> list[np.ndarray]:
        """(session, position, tokens) each -> scores of every row of each."""
        hidden = [None] * len(parts)
        for engine in self.engines:
            chunks = [
                Chunk(name, position, tuple(tokens), given, tuple(range(len(tokens))))
                for (name, position, tokens), given in zip(parts, hidden, strict=True)
            ]
            outputs = engine.step(chunks)
            hidden = [output.hidden for output in outputs]
        return [output.scores for output in outputs]

    def forward(self, tokens: Sequence[int]) -> np.ndarray:
        hidden = None
        for engine in self.engines:
            output = engine.forward(tokens, hidden)
            hidden = output.hidden
        return output.scores
