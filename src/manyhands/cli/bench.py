"""`hands bench`: the verb. What it does stands in `bench_run`, imported when it is called."""

from __future__ import annotations

import json
import sys


def bench(folder: str, *, rounds: int, as_json: bool) -> None:
    """Measure this machine and really run a model, beside what is predicted."""
    from rich.console import Console

    from manyhands.cli.bench_run import as_data, run_bench, show
    from manyhands.cli.words import engine_for
    from manyhands.store.builtin import folder_of

    notes = Console(stderr=True)
    with notes.status("starting") as status:
        place = folder_of(folder)
        report = run_bench(
            place, rounds=rounds, engine=engine_for(place, "auto"), told=status.update
        )
    if as_json:
        sys.stdout.write(json.dumps({"event": "bench", **as_data(report)}) + "\n")
    else:
        show(report, Console())
