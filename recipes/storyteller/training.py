"""Trains the storyteller: a warm-up, a long level stretch, a straight way down to nothing.

The level stretch keeps a choice open: `Plan.steps` can be set while it runs. What was reached is
kept every few minutes in `resume.safetensors`; a run that finds one goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import safetensors.torch
import tokenizers
import torch
from torch.nn import functional

from recipes.storyteller.corpus import IGNORED, Batch, batches, documents
from recipes.storyteller.net import Net, Shape
from recipes.storyteller.optimiser import Optimiser


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast. `lessons`: see `documents`."""

    seed: int = 20
    steps: int = 4000
    warmup: int = 60
    decay: int = 1900
    batch_tokens: int = 4096
    lessons: tuple[int, int, int] = (5000, 5000, 6000)
    rate: float = 2e-3
    matrix_rate: float = 0.02
    decay_of_weights: float = 0.05
    clip: float = 1.0
    keep_every: int = 100

    def height_at(self, step: int) -> float:
        """What share of the full rates a step has: up, level, down."""
        up = (step + 1) / self.warmup
        down = (self.steps - step) / self.decay
        return min(1.0, up, down)


@dataclass(frozen=True, slots=True)
class Made:
    """How a network came to be: seconds are those that passed, held_out is in nats a token."""

    parameters: int
    steps: int
    tokens: int
    seconds: float
    held_out: float


def train(
    made: tokenizers.Tokenizer,
    shape: Shape,
    plan: Plan,
    folder: Path,
    device: str,
    say: Callable[[str], None],
    on_kept: Callable[[Net, int], None] | None = None,
) -> tuple[Net, Made]:
    """Train to the plan's end. Seeded; the same up to floating point on the same machine."""
    torch.manual_seed(plan.seed)
    net = Net(shape).to(device)
    optimiser = Optimiser(net, decay_of_weights=plan.decay_of_weights)
    first, seen, spent = _resume(net, optimiser, folder)
    told = documents(made, plan.seed, plan.lessons, shape.context)
    stream = islice(batches(told, plan.batch_tokens, plan.seed), first, plan.steps)
    start, losses = time.perf_counter() - spent, []
    for step, batch in enumerate(stream, first):
        losses.append(_step(net, optimiser, plan, step, batch, device))
        seen += batch.size
        if (step + 1) % 20 == 0:
            took = time.perf_counter() - start
            mean = sum(losses) / len(losses)
            say(f"step {step + 1} loss {mean:.4f} tokens {seen} seconds {took:.0f}")
            losses = []
        if (step + 1) % plan.keep_every == 0 or step + 1 == plan.steps:
            _keep(net, optimiser, folder, step + 1, seen, time.perf_counter() - start)
            if on_kept is not None:
                on_kept(net, step + 1)
    seconds = time.perf_counter() - start
    parameters = sum(weight.numel() for weight in net.parameters())
    held_out = held_out_loss(net, made, plan, device)
    return net, Made(parameters, plan.steps, seen, seconds, held_out)


def _step(
    net: Net,
    optimiser: Optimiser,
    plan: Plan,
    step: int,
    batch: Batch,
    device: str,
) -> float:
    losses = losses_of(net, batch, device)
    learned = (batch.targets != IGNORED).sum().to(device)
    (losses @ batch.weights.to(device).flatten() / learned).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
    height = plan.height_at(step)
    optimiser.step(plan.matrix_rate * height, plan.rate * height)
    return float(losses.detach().sum() / learned)


def losses_of(net: Net, batch: Batch, device: str) -> torch.Tensor:
    """The loss of every place of a batch, in nats; 0 where nothing is learned."""
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        scores = net(batch.inputs.to(device))
    flat, targets = scores.float().flatten(0, 1), batch.targets.to(device).flatten()
    return functional.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="none")


@torch.no_grad()
def held_out_loss(net: Net, made: tokenizers.Tokenizer, plan: Plan, device: str) -> float:
    """Mean loss a token over loosely asked stories of a seed that is never trained on."""
    stream = documents(made, plan.seed + 1_000_000, (0, 0, 10**9), net.shape.context)
    total, count = 0.0, 0
    for batch in islice(batches(stream, plan.batch_tokens, plan.seed), 40):
        total += float(losses_of(net, batch, device).sum())
        count += int((batch.targets != IGNORED).sum())
    return total / count


def _keep(
    net: Net, optimiser: Optimiser, folder: Path, step: int, seen: int, seconds: float
) -> None:
    kept = {f"net.{name}": w.detach().contiguous() for name, w in net.named_parameters()}
    kept |= {f"optimiser.{name}": values for name, values in optimiser.state().items()}
    said = {"step": str(step), "tokens": str(seen), "seconds": str(math.floor(seconds))}
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "resume.new"
    safetensors.torch.save_file(kept, fresh, metadata=said)
    fresh.replace(folder / "resume.safetensors")


def _resume(net: Net, optimiser: Optimiser, folder: Path) -> tuple[int, int, float]:
    """Steps, tokens and seconds that lie behind what is in `folder`; zeros for an empty one."""
    file = folder / "resume.safetensors"
    if not file.exists():
        return 0, 0, 0.0
    with safetensors.safe_open(file, framework="pt") as kept:
        said = kept.metadata()
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 no mapping
    for name, weight in net.named_parameters():
        weight.data.copy_(tensors[f"net.{name}"])
    start = "optimiser."
    taken = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    optimiser.go_on(taken, int(said["step"]))
    return int(said["step"]), int(said["tokens"]), float(said["seconds"])
