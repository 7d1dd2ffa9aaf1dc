"""Attention of the next token of each of many sessions: as few calls a session as can be.

Knows nothing of blocks: it is given a block's place in the sessions' memories.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from manyhands.domain.model_spec import Attention
from manyhands.engine.blocks import Part
from manyhands.engine.torch_math import attend_once


def attend_next(
    parts: Sequence[Part[Tensor]],
    place: int,
    spec: Attention,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
) -> Tensor:
    """One token of each part: queries [N, H, W], new keys and values [N, K, W] -> [N, H * V].

    The new ones are remembered first. For attention that `is_plain`.
    """
    by_group = queries.reshape(len(parts), 1, spec.kv_heads, -1, spec.head_dim)
    mixed = []
    rows = zip(parts, by_group.unbind(), keys.unbind(), values.unbind(), strict=True)
    for part, query, key, value in rows:
        all_keys, all_values = (part.blocks or ())[place]
        all_keys.select(1, part.position).copy_(key)
        all_values.select(1, part.position).copy_(value)
        start = 0 if spec.window is None else max(0, part.end - spec.window)
        length = part.end - start
        known = all_keys.narrow(1, start, length), all_values.narrow(1, start, length)
        mixed.append(attend_once(query, *known, spec))
    return torch.cat(mixed).view(len(parts), -1)
