"""`hands bench`: the verb. What it does stands in `bench_run`, imported when it is called."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def bench(
    folder: Annotated[
        str, typer.Argument(help="A model's folder; without it the storyteller.")
    ] = "storyteller",
    *,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How often it is run.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Plain data instead of a table.")] = False,
) -> None:
    """Measure this machine and really run a model, beside what is predicted."""
    from rich.console import Console

    from manyhands.cli.bench_run import as_data, run_bench, show
    from manyhands.store.builtin import folder_of

    notes = Console(stderr=True)
    with notes.status("starting") as status:
        report = run_bench(folder_of(folder), rounds=rounds, told=status.update)
    if as_json:
        sys.stdout.write(json.dumps(as_data(report), indent=2) + "\n")
    else:
        show(report, Console())
