"""What this machine could run: its measured figures, and eight well-known models against them.

From figures to plain data (`--json`) and to a table of at most 80 columns. Everything about a model
is a prediction and called one; only formats that run today are counted.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from manyhands.cli.known_models import KNOWN_MODELS, KnownModel
from manyhands.engine.measure import Measured
from manyhands.plan.cost import Cost
from manyhands.plan.fits import Fit, fit

TOKENS = 4096
"""Of context a model is given memory for; its speed is predicted with half of them in it."""

BUSY = 0.25
"""Share of the processors in use by others from which on it is told."""

BITS = {"fp32": "32-bit", "bf16": "16-bit", "fp16": "16-bit", "int8": "8-bit", "int4": "4-bit"}


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A known model and what the machine could do with it."""

    name: str
    fit: Fit


@dataclass(frozen=True, slots=True)
class MachineReport:
    """What was measured, and predictions for models of `tokens` tokens of context."""

    measured: Measured
    cores: int
    tokens: int
    models: tuple[ModelRow, ...]


def machine_report(
    measured: Measured, models: tuple[KnownModel, ...] = KNOWN_MODELS, *, tokens: int = TOKENS
) -> MachineReport:
    """Count every model on the measured device, and on two like it over a home network."""
    kv = measured.bytes_per_kv
    cost = Cost(
        bytes_per_weight=measured.bytes_per_number,
        bytes_per_kv=kv,
        bytes_per_hidden=kv,
        context=tokens // 2,
    )
    rows = tuple(
        ModelRow(model.name, fit(model.spec(), measured.device, cost, tokens=tokens))
        for model in models
    )
    return MachineReport(measured, os.cpu_count() or 1, tokens, rows)


def as_data(report: MachineReport) -> dict[str, Any]:
    """Plain data for `--json`: bytes, seconds and tokens a second, as the fields are named."""
    return asdict(report)


def show(report: MachineReport, console: Console) -> None:
    """Lines and a table for a person."""
    for line in machine_lines(report.measured, report.cores):
        console.print(line, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("predicted for", no_wrap=True)
    table.add_column("needs", justify="right", no_wrap=True)
    table.add_column("here alone", justify="right", no_wrap=True)
    table.add_column("with one more like it", no_wrap=True)
    for row in report.models:
        table.add_row(row.name, _gigabytes(row.fit.needed_bytes), *_answers(row.fit))
    console.print()
    console.print(table)
    console.print()
    console.print(_note(report), highlight=False, style="dim")


def machine_lines(measured: Measured, cores: int) -> list[str]:
    """The measured figures, and what to know of them, a line each."""
    device = measured.device
    lines = [
        f"This machine, measured: {device.read_bytes_per_s / 1e9:.1f} GB/s, "
        f"{device.flops_per_s / 1e9:,.0f} GFLOP/s, {_gigabytes(device.memory_bytes)} memory free",
        f"  on {cores} cores, {BITS[measured.dtype]} weights ({measured.dtype}) with "
        f"{measured.engine}",
    ]
    if measured.busy >= BUSY:
        lines.append(f"  {measured.busy:.0%} busy with other programs meanwhile: figures are low")
    if measured.note:
        lines.append(f"  {measured.note}")
    return lines


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB"


def _answers(fit: Fit) -> tuple[str, str]:
    if fit.tok_s is not None and fit.tok_s_with_one_more is not None:
        return _rate(fit.tok_s), _rate(fit.tok_s_with_one_more)
    if fit.tok_s_with_one_more is not None:
        return "does not fit", f"{_rate(fit.tok_s_with_one_more)}, split in two"
    return "does not fit", f"no: {fit.devices} like it, at least"


def _rate(tok_s: float) -> str:
    return f"{tok_s:.1f} tok/s" if tok_s < 100 else f"{tok_s:.0f} tok/s"


def _note(report: MachineReport) -> str:
    note = (
        f"Predictions from the figures above, for one conversation of {report.tokens:,} tokens; "
        "the second device over a home network. A device that holds the model alone answers one "
        "conversation no slower than two would; the second can take over when it is lost."
    )
    if report.measured.engine == "numpy":
        note += (
            " numpy computes in 32 bits; with torch, where the processor multiplies 16-bit "
            "numbers itself, a model needs half."
        )
    return note
