"""The two ways of latent attention beside each other, and whether the cheaper one is chosen.

    python benchmarks/latent.py [--heads 32] [--rounds 7] [--threads 1] [--dtypes fp32 bf16]

One attention as wide as DeepSeek-V3's (rank 512, heads of 128 + 64 and 128), `--heads` of its 128.
Both ways take turns over the same random latents. Prints a markdown row for each chunk and memory:
medians, their ratio, and which way the engine takes there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from manyhands.domain.latent import absorbed, is_absorbed_better
from manyhands.domain.model_spec import Attention, Latent
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.torch_latent import attend_absorbed, attend_expanded
from manyhands.engine.torch_linear import Linear
from manyhands.engine.torch_math import mask_of

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
LATENT = Latent(None, 512, 128, 64)
PLACES = ((1, 64), (1, 512), (1, 4096), (8, 512), (64, 512), (128, 4096), (512, 512))
"""(tokens of the step, tokens in memory with them)."""


def quickest(work: Callable[[], Tensor], least_s: float) -> float:
    """Seconds of one call, as the mean over as many as take `least_s`."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < least_s or calls == 0:
        work()
        calls += 1
    return (time.perf_counter() - start) / calls


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    spec = Attention(given.heads, given.heads, 192, 128, 192**-0.5, latent=LATENT)
    print("| dtype | tokens | memory | absorbed ms | expanded ms | ratio | taken |")
    print("|---|---|---|---|---|---|---|")
    for name in given.dtypes:
        dtype = DTYPES[name]
        k_up, v_up = torch.randn(2, given.heads, 128, 512).div_(512**0.5).to(dtype)
        weights: LatentWeights[Tensor, Linear] = LatentWeights(
            spec, LATENT, absorbed(spec, LATENT), None, k_up, v_up
        )
        for tokens, keys in PLACES:
            queries = torch.randn(tokens, given.heads, 192).to(dtype)
            known = torch.randn(keys, 576).to(dtype)
            mask = mask_of(keys - tokens, tokens, None, dtype) if 1 < tokens < keys else None
            times: dict[Callable[..., Tensor], list[float]] = {
                attend_absorbed: [],
                attend_expanded: [],
            }
            for turn in range(given.rounds + 1):
                for way, seconds in times.items():
                    took = quickest(partial(way, queries, known, mask, weights), 0.05)
                    if turn:  # the first one warms up
                        seconds.append(took)
            one, other = (statistics.median(seconds) for seconds in times.values())
            chosen = "absorbed" if is_absorbed_better(spec, LATENT, tokens, keys) else "expanded"
            print(
                f"| {name} | {tokens} | {keys} | {one * 1e3:.2f} | {other * 1e3:.2f} | "
                f"{one / other:.2f} | {chosen} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
