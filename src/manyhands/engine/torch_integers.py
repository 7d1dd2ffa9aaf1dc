"""Attention of a model in blocks of integers for torch: the same memory, seen by numpy.

Knows nothing of blocks or sessions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from manyhands.domain.model_spec import Attention
from manyhands.engine.integers import Integers


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
    mixed = whole.attend(queries.numpy(), keys.numpy(), values.numpy(), position, spec, held)
    return torch.from_numpy(mixed.reshape(mixed.shape[0], -1))
