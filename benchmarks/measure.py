"""Predicted decoding beside real decoding: `measure` and `plan/fits` against the engine itself.

    python benchmarks/measure.py [--models 443M Qwen2.5-0.5B Llama-3.2-1B] [--turns 3] [--small]
                                 [--cases numpy:fp32 torch:bf16 torch:fp32]

Builds each model with random weights in a temporary folder (443M is the Llama of sides.py, others
have the shape of the known model). Each turn measures the machine anew, in a child process, and
then runs the model. Prints a markdown row a case: medians over the turns, and the ratio of
prediction to reality in each turn, since the machine may be shared.
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

from manyhands.cli.bench_run import BenchReport, Rate, run_bench
from manyhands.cli.known_models import KNOWN_MODELS
from sides import build, machine


def build_known(folder: Path, name: str) -> None:
    """Write a known model's shape with random weights in bfloat16."""
    config = dict(next(model.config for model in KNOWN_MODELS if model.name == name))
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def row(model: str, case: str, reports: list[BenchReport]) -> str:
    """One markdown row."""

    def both(rates: list[Rate]) -> str:
        ratios = [rate.predicted / rate.tok_s for rate in rates]
        real = statistics.median(rate.tok_s for rate in rates)
        said = statistics.median(rate.predicted for rate in rates)
        return (
            f"| {real:.1f} | {said:.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
        )

    devices = [report.measured.device for report in reports]
    read = statistics.median(device.read_bytes_per_s for device in devices) / 1e9
    flops = statistics.median(device.flops_per_s for device in devices) / 1e9
    fixed = statistics.median(device.overhead_s for device in devices) * 1e6
    return (
        f"| {model} | {case} | {read:.1f} | {flops:.0f} | {fixed:.0f} "
        f"{both([report.decode for report in reports])}"
        f"{both([report.prompt for report in reports])}|"
    )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["443M", "Llama-3.2-1B"])
    parser.add_argument("--cases", nargs="+", default=["numpy:fp32", "torch:bf16", "torch:fp32"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    chosen = parser.parse_args(arguments)
    show(
        "| model | engine | GB/s | GFLOP/s | µs a block | answer tok/s | predicted | ratio (range) "
        "| prompt tok/s | predicted | ratio (range) |"
    )
    show("|---|---|---|---|---|---|---|---|---|---|---|")
    transformers.logging.disable_progress_bar()
    for name in chosen.models:
        with tempfile.TemporaryDirectory() as folder:
            if name == "443M":
                build(Path(folder), torch.bfloat16, chosen.small)
            else:
                build_known(Path(folder), name)
            for case in chosen.cases:
                engine, dtype = case.split(":")
                reports = [
                    run_bench(Path(folder), rounds=chosen.rounds, engine=engine, dtype=dtype)
                    for _ in range(chosen.turns)
                ]
                show(row(name, case, reports))
    show(f"\n{machine()}")


if __name__ == "__main__":
    main(sys.argv[1:])
