"""What a model in blocks of integers needs of torch so that a row's bits are its own.

Attention is that of numpy, over the same memory; functions of single numbers are applied in whole
vectors. Knows nothing of blocks or sessions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from manyhands.domain.model_spec import Attention
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.integers import Integers
from manyhands.engine.row_attention import Kept
from manyhands.engine.row_latent import attend_latent_by_rows
from manyhands.engine.torch_linear import Linear

LANES = 32
"""Numbers that torch works on at one time: two vectors of the widest processor."""

ONE_THREAD = 2**14
"""So many numbers are never shared among torch's threads."""


def attend_by_rows(
    whole: Integers,
    queries: Tensor,
    known: tuple[Tensor, Tensor],
    spec: Attention,
    sinks: Tensor | None,
) -> Tensor:
    """Queries [T, H, W], the last T of the keys and values [K, L, W] known -> [T, H * V]."""
    keys, values = known
    position = keys.shape[1] - queries.shape[0]  # where a window cut keys off, from there
    held = None if sinks is None else sinks.numpy()
    mixed = whole.attend(queries.numpy(), seen(keys), seen(values), position, spec, held)
    return torch.from_numpy(mixed.reshape(mixed.shape[0], -1))


def seen(kept: Tensor) -> Kept:
    """Keys or values for numpy, which has no bfloat16 and takes its bits."""
    if kept.dtype == torch.bfloat16:
        bits: Kept = kept.view(torch.uint16).numpy()
        return bits
    return kept.numpy()


def attend_latent(
    whole: Integers, queries: Tensor, known: Tensor, weights: LatentWeights[Tensor, Linear]
) -> Tensor:
    """Queries [T, H, nope + rope], the last T of the latents [L, R + rope] known -> [T, H * V]."""
    mixed = attend_latent_by_rows(whole, queries.numpy(), seen(known), weights)
    return torch.from_numpy(mixed.reshape(mixed.shape[0], -1))


def in_vectors(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`function` of each number of [N, W], whose bits then depend on that number alone.

    torch computes what is left over of a vector, at the end of a thread's share, by other code:
    silu, gelu and sigmoid then differ in the last bit, where a row lies decides.
    """
    count = rows.numel()
    if rows.shape[-1] % LANES == 0 and count <= ONE_THREAD and rows.is_contiguous():
        return function(rows)  # whole vectors as it is
    flat = torch.zeros(-(-count // LANES) * LANES)
    held = flat[:count].view(rows.shape)
    held.copy_(rows)
    for some in torch.split(flat, ONE_THREAD):
        some.copy_(function(some))
    return held
