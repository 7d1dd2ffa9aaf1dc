"""`make bench`: this machine's figures in one run, ours beside others', by turns.

    python benchmarks/bench.py [--only decode prefill batch context memory overhead]
                               [--forms fp32 bf16 int8 int4] [--threads 1 2] [--rounds 3]
                               [--tokens 12] [--clock cpu] [--to build/bench]
                               [--keep FOLDER] [--small]

The 443M Llama of sides.py, in our torch engine and in transformers (sdpa and eager; beside integers
in bf16), and in llama.cpp where `llama-bench` is on the PATH. Each round every side has its turn:

    decode     a token after 16, beside how fast memory is read in that round
    prefill    a prompt of 512 tokens, and of 2,048, taken in at once
    batch      a token of each of 1, 8 and 32 sessions
    context    a token after 8,192 beside one after 16: what keys and values cost (bf16, int8)
    memory     of a fresh process: seconds to load, bytes at the peak
    overhead   a block of width 64 at one row, by CPU time: what is fixed about a block

decode runs with each of the thread counts, overhead and memory with 1, the others with the most.
The longer prompt and memory have half of the rounds.
Writes figures.json, rows.md and plot.svg into a folder, and prints the rows. About ten minutes on
two cores, all 443M models together 4 GB on disk.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import transformers

import bench_plot
import bench_rows
import llama_cpp
from bench_parts import ALONE, ASKED, Run, measure
from clocks import add_clock, clock_of
from figures import Report, write
from sides import FORMS, machine


def report_of(run: Run) -> Report:
    missing = llama_cpp.missing()
    notes = [f"clock: {run.chosen.clock}; {run.chosen.rounds} rounds of {run.chosen.tokens} tokens"]
    notes += [f"llama.cpp: {missing}"] if missing else []
    notes += ["a toy model: figures say nothing"] if run.chosen.small else []
    today = dt.date.today().isoformat()
    return Report(today, machine(), tuple(notes), tuple(run.figures))


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = [*ASKED, *ALONE]
    parser.add_argument("--only", nargs="+", default=parts, choices=parts, metavar="PART")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=12)
    add_clock(parser)
    parser.add_argument("--to", default="build/bench", help="a folder for what is written")
    parser.add_argument("--keep", default="", help="build the models here, once, and leave them")
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    clock = clock_of(parser, chosen.clock, chosen.threads)
    transformers.logging.disable_progress_bar()
    to = Path(chosen.to)
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(chosen, Path(chosen.keep or temporary), clock)
        try:
            measure(run)
        finally:  # after Ctrl-C, what there is
            report = report_of(run)
            write(report, to / "figures.json")
    rows = bench_rows.page(report)
    (to / "rows.md").write_text(rows, "utf-8")
    (to / "plot.svg").write_text(bench_plot.plot(report), "utf-8")
    show(rows)
    show(f"figures.json, rows.md and plot.svg are in {to}")


if __name__ == "__main__":
    main(sys.argv[1:])
