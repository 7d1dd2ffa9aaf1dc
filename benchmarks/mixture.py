"""A mixture of experts in our torch engine beside transformers' own block, same weights, same run.

    python benchmarks/mixture.py [--experts 64] [--rounds 7] [--threads 1] [--dtypes fp32 bf16]

One Qwen3-MoE mixture (width 1024, experts of 512, 8 chosen). Ours takes turns with transformers'
`grouped_mm` (its default) and `eager` experts over the same rows; int8 and int4 are ours converted,
beside transformers in bf16. Prints a markdown row for each
number of rows: medians, and the ratio to the better of the two.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor

from manyhands.domain.model_spec import BlockSpec
from manyhands.domain.weight_format import INTEGER_FORMATS
from manyhands.engine.integers import integers_of
from manyhands.engine.layer_weights import read_block
from manyhands.engine.torch_integers import in_vectors
from manyhands.engine.torch_math import plainly
from manyhands.engine.torch_moe import feed
from manyhands.engine.torch_weights import TorchReader
from manyhands.node.conversion import convert
from manyhands.store.checkpoint import Checkpoint

DTYPES = {
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "int8": torch.bfloat16,
    "int4": torch.bfloat16,
}
"""What transformers computes in."""
WIDTH = 1024


def build(folder: Path, dtype: torch.dtype, experts: int) -> None:
    """Write a random model of one block."""
    config = transformers.Qwen3MoeConfig(
        vocab_size=256,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        moe_intermediate_size=512,
        num_experts=experts,
        num_experts_per_tok=8,
        norm_topk_prob=True,
    )
    torch.manual_seed(0)
    transformers.Qwen3MoeForCausalLM(config).to(dtype).save_pretrained(folder)


def ours(folder: Path, name: str, threads: int) -> Callable[[Tensor], Tensor]:
    """The mixture as our engine holds it."""
    checkpoint, dtype = Checkpoint.open(folder), DTYPES[name]
    for form in INTEGER_FORMATS:
        if form == name:
            convert(checkpoint, form, folder / form, lambda _: None)
            checkpoint, dtype = Checkpoint.open(folder / form), torch.float32
    layer, part = checkpoint.spec.layers[1], checkpoint.spec.blocks[0]
    if not isinstance(part, BlockSpec):
        raise TypeError
    whole = integers_of(checkpoint.spec, threads)
    weights = read_block(layer, part, WIDTH, 1, TorchReader(checkpoint.read, dtype, whole))
    apply = plainly if whole is None else in_vectors
    return lambda rows: feed(rows.to(dtype), weights.mlp, apply)


def theirs(folder: Path, dtype: torch.dtype, experts: str) -> Callable[[Tensor], Tensor]:
    """The same of transformers, with the named way of computing experts."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, experts_implementation=experts
    ).eval()
    return lambda rows: model.model.layers[0].mlp(rows[None])[0]


def seconds(work: Callable[[Tensor], Tensor], rows: Tensor) -> float:
    """Seconds of one call, the mean over 0.1 s of them."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < 0.1 or calls == 0:
        work(rows)
        calls += 1
    return (time.perf_counter() - start) / calls


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| dtype | rows | ours ms | grouped_mm ms | eager ms | ours : better (range) |")
    print("|---|---|---|---|---|---|")
    for name in given.dtypes:
        dtype = DTYPES[name]
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            build(folder, dtype, given.experts)
            sides = {
                "ours": ours(folder, name, given.threads),
                "grouped_mm": theirs(folder, dtype, "grouped_mm"),
                "eager": theirs(folder, dtype, "eager"),
            }
            for count in (1, 8, 64, 512):
                rows = torch.randn(count, WIDTH).to(dtype)
                times = {side: [] for side in sides}
                for turn in range(given.rounds + 1):
                    for side, work in sides.items():
                        took = seconds(work, rows)
                        if turn:  # the first one warms up
                            times[side].append(took)
                row(name, count, times)


def row(dtype: str, count: int, times: dict[str, list[float]]) -> None:
    medians = {side: statistics.median(some) for side, some in times.items()}
    better = min("grouped_mm", "eager", key=lambda side: medians[side])
    ratios = [a / b for a, b in zip(times[better], times["ours"], strict=True)]
    shown = " | ".join(f"{medians[side] * 1e3:.2f}" for side in ("ours", "grouped_mm", "eager"))
    print(
        f"| {dtype} | {count} | {shown} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}–{max(ratios):.2f}) |",
        flush=True,
    )


if __name__ == "__main__":
    main()
