"""Attention of many sessions at once: one call of the compiled kernel, or few of torch a session.

Knows nothing of blocks: it is given a block's place in the sessions' memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from manyhands.domain.model_spec import Attention
from manyhands.engine.blocks import Part
from manyhands.engine.row_attention import attend_parts
from manyhands.engine.torch_math import attend_once

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

LANES = 32
"""The kernel widens so many numbers of bfloat16 at a time: the even ones, then the odd ones."""


def is_for_kernel(spec: Attention, dtype: torch.dtype) -> bool:
    """True where `attend_together` can compute it."""
    is_wide = spec.head_dim % LANES == 0 and spec.v_head_dim % LANES == 0
    is_plain = spec.causal and spec.softcap is None and spec.alibi is None
    return dtype == torch.bfloat16 and is_wide and is_plain


def attend_together(
    crew: Crew,
    parts: Sequence[Part[Tensor]],
    cuts: Sequence[int],
    place: int,
    spec: Attention,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    sinks: Tensor | None,
) -> Tensor:
    """Rows `cuts` of all parts: queries [N, H, W], new keys and values [N, K, W] -> [N, H * V].

    All in bfloat16. The new ones are remembered first, where there is a memory.
    """
    rows = queries.shape[0]
    table = np.empty((len(parts), 11), np.int64)
    for number, part in enumerate(parts):
        first, last = cuts[number], cuts[number + 1]
        all_keys, all_values = keys[first:last].transpose(0, 1), values[first:last].transpose(0, 1)
        if part.blocks is not None:
            new_keys, new_values = all_keys, all_values
            all_keys, all_values = part.blocks[place]
            all_keys[:, part.position : part.end].copy_(new_keys)
            all_values[:, part.position : part.end].copy_(new_values)
        lies = (*_place(all_keys), *_place(all_values))
        table[number] = (first, last - first, part.position, *lies, 0, 0)
    evens_first = torch.empty(rows, spec.heads, spec.head_dim)
    _lanes(evens_first, 2).copy_(_lanes(queries, LANES // 2).mT)
    out = torch.empty(rows, spec.heads, spec.v_head_dim)
    held = None if sinks is None else sinks.float().numpy()
    attend_parts(crew, evens_first.numpy(), out.numpy(), table, spec, held, halved=True)
    mixed = torch.empty_like(out, dtype=queries.dtype)
    _lanes(mixed, LANES // 2).copy_(_lanes(out, 2).mT)
    return mixed.view(rows, -1)


def _lanes(rows: Tensor, groups: int) -> Tensor:
    """[N, H, W] with every 32 numbers as so many groups."""
    count, heads, width = rows.shape
    return rows.view(count, heads, width // LANES, groups, LANES // groups)


def _place(array: Tensor) -> tuple[int, int, int]:
    """Where [K, L, W] lies: address, bytes from head to head, bytes from token to token."""
    head, token, _ = array.stride()
    return array.data_ptr(), head * array.element_size(), token * array.element_size()


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
