"""Runs a model on this machine and sets what was measured beside what is predicted.

What `hands bench` and `benchmarks/measure.py` print. Engine and sampler only: no peers, no links.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from manyhands.cli.machine import machine_lines
from manyhands.cli.words import check_speaks
from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.work import Sampling, Want
from manyhands.engine import choice
from manyhands.engine.engine import Chunk, Engine
from manyhands.engine.measure import Measured, measure, names
from manyhands.engine.sampler import draw
from manyhands.errors import NotServed, ResourceError
from manyhands.plan.cost import Cost, kv_bytes
from manyhands.plan.fits import fit, prompt_tok_s
from manyhands.store.checkpoint import Checkpoint

PROMPT_TOKENS, ANSWER_TOKENS = 128, 16
"""Of one round; a model of a short context has half of it as prompt."""

ROOM = 2
"""Key/value memory given, in sessions: pages are rounded up."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens a second: the median of the rounds, the slowest and quickest, and the prediction."""

    tok_s: float
    slowest: float
    quickest: float
    predicted: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What ran, and how fast. `prompt_tokens` went in at once, then `answer_tokens` one by one."""

    folder: str
    parameters: int
    rounds: int
    prompt_tokens: int
    answer_tokens: int
    measured: Measured
    prompt: Rate
    decode: Rate


def run_bench(
    folder: Path,
    *,
    rounds: int = 5,
    engine: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Measure this machine, then run the model of `folder` in this process: engine and sampler.

    `told` hears what is going on. Raises what `Checkpoint.open`, `choose` and `measure` raise, and
    ResourceError before loading a model that does not fit.
    """
    checkpoint = Checkpoint.open(folder, choice.spec_of)
    checkpoint.check()
    spec = checkpoint.spec
    check_speaks(spec, checkpoint.folder)
    if spec.source:
        raise NotServed(
            f"{checkpoint.folder} is an encoder-decoder; what is measured here is going on with "
            "a text: `hands serve` it and ask /v1/completions"
        )
    kind = choice.choose(engine, dtype, threads, spec, checkpoint.read)
    name, computed = names(kind)
    told("measuring this machine")
    measured = measure(name, dtype=computed, threads=threads)
    prompt = min(PROMPT_TOKENS, spec.context // 2)
    answer = min(ANSWER_TOKENS, spec.context - prompt)
    number, kv = kind.bytes_per_weight, kind.bytes_per_kv
    cost = Cost(bytes_per_weight=number, bytes_per_kv=kv, context=prompt + answer // 2)
    predicted = fit(spec, measured.device, cost, tokens=prompt + answer)
    if predicted.tok_s is None:
        raise ResourceError(f"{checkpoint.folder} cannot run here alone: it {predicted.reason}")
    told(f"loading {checkpoint.folder}")
    room = ROOM * kv_bytes(spec, spec.span, prompt + answer, cost)
    if kind.on_start is not None:
        kind.on_start()
    loaded = kind.load(spec.span, room)
    told("running")
    prompts, answers = _run(loaded, spec, rounds, prompt, answer)
    reading = Cost(bytes_per_weight=number, bytes_per_kv=kv, tokens=prompt)
    return BenchReport(
        folder=str(checkpoint.folder),
        parameters=predicted.parameters,
        rounds=rounds,
        prompt_tokens=prompt,
        answer_tokens=answer,
        measured=measured,
        prompt=_rate(prompts, prompt, prompt_tok_s(spec, measured.device, reading)),
        decode=_rate(answers, answer, predicted.tok_s),
    )


def _run(
    engine: Engine, spec: ModelSpec, rounds: int, prompt: int, answer: int
) -> tuple[list[float], list[float]]:
    """Seconds of each round's prompt and of its answer; one round before them is not counted."""
    session = SessionId("0" * 32)
    engine.open(session, prompt + answer)
    tokens = tuple((7 * place + 1) % spec.vocabulary for place in range(prompt))
    prompts, answers = [], []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        token = _next(engine, Chunk(session, 0, tokens, None, (prompt - 1,)))
        read = time.perf_counter()
        for place in range(prompt, prompt + answer):
            token = _next(engine, Chunk(session, place, (token,), None, (0,)))
        prompts.append(read - start)
        answers.append(time.perf_counter() - read)
    engine.close(session)
    return prompts[1:], answers[1:]


def _next(engine: Engine, chunk: Chunk) -> int:
    out = engine.step([chunk])[0]
    scores = np.zeros((1, 1), np.float32) if out.scores is None else out.scores
    end = chunk.position + len(chunk.token_ids)
    return draw(scores[0], Sampling(), end, (), Want()).token or 0


def _rate(seconds: list[float], tokens: int, predicted: float) -> Rate:
    middle = statistics.median(seconds)
    return Rate(tokens / middle, tokens / max(seconds), tokens / min(seconds), predicted)


def as_data(report: BenchReport) -> dict[str, Any]:
    """Plain data for `--json`."""
    return asdict(report)


def show(report: BenchReport, console: Console) -> None:
    """Lines and a table for a person, at most 80 columns."""
    for line in machine_lines(report.measured, os.cpu_count() or 1):
        console.print(line, highlight=False)
    console.print(
        f"{Path(report.folder).name}: {report.parameters / 1e6:,.1f}M parameters, "
        f"{report.rounds} rounds of {report.prompt_tokens} + {report.answer_tokens} tokens",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("tok/s", no_wrap=True)
    for title in ("really", "slowest", "quickest", "predicted"):
        table.add_column(title, justify="right", no_wrap=True)
    for title, rate in (("prompt", report.prompt), ("answer", report.decode)):
        figures = (rate.tok_s, rate.slowest, rate.quickest, rate.predicted)
        table.add_row(title, *(f"{figure:,.1f}" for figure in figures))
    console.print()
    console.print(table)
