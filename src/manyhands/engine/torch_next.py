"""Attention of many sessions at once: one call of the compiled kernel, or few of torch a session.

Knows nothing of blocks: it is given a block's place in the sessions' memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from manyhands.domain.model_spec import Attention, Rope
from manyhands.engine.blocks import Part
from manyhands.engine.torch_math import attend_once
from manyhands.engine.torch_step import Step

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

LANES = 16
"""The kernel takes heads whose widths are multiples of this."""


def is_for_kernel(spec: Attention) -> bool:
    """True where `Together` can compute it."""
    is_wide = spec.head_dim % LANES == 0 and spec.v_head_dim % LANES == 0
    is_plain = spec.causal and spec.softcap is None and spec.alibi is None
    return is_wide and is_plain and spec.latent is None


class Together:
    """A block's attention that `is_for_kernel`, by the threads of a crew.

    Keys and values are kept in bfloat16.
    """

    def __init__(
        self, crew: Crew, spec: Attention, rope: Rope | None, sinks: Tensor | None
    ) -> None:
        self._crew, self._spec, self._rope = crew, spec, rope
        self._sinks = None if sinks is None else sinks.float().contiguous()
        self._row_bytes = 4 * spec.heads * spec.head_dim
        self._spare = 4 * max(spec.head_dim, spec.v_head_dim)
        self._outs = spec.heads * spec.v_head_dim
        self._held = (
            spec.heads,
            spec.kv_heads,
            spec.head_dim,
            spec.v_head_dim,
            0 if rope is None else len(rope.inv_freq),
            rope is not None and rope.interleaved,
            float(spec.scale),
            0 if self._sinks is None else self._sinks.data_ptr(),
            spec.window or 0,
        )

    def __deepcopy__(self, _memo: object) -> Together:
        return self  # it never changes, and knows its memory by address: a copied engine shares it

    def __call__(self, fused: Tensor, place: int, step: Step) -> Tensor:
        """Rows of all parts: queries, keys, values beside each other, not yet turned -> [N, H * V].

        The new keys and values are remembered first, where there is a memory.
        """
        table, count, own = step.table(place), fused.shape[0], []
        for row, number in enumerate(step.order):
            part = step.parts[number]
            if part.places is None:
                own.append(pair := self._memory(part.end))
                table[row, 3:9] = (*_place(pair[0]), *_place(pair[1]))
        given, out = fused.contiguous(), torch.empty(count, self._outs)
        turns = None if self._rope is None else step.wide_turn(self._rope)
        crew = self._crew
        crew.end(
            crew.kernels.attend_rows(
                crew.state,
                crew.threads,
                given.dtype == torch.bfloat16,
                given.data_ptr(),
                0 if turns is None else turns.data_ptr(),
                table.ctypes.data,
                len(step.parts),
                out.data_ptr(),
                crew.room(count * self._row_bytes + self._spare),
                *self._held,
            )
        )
        return out.to(fused.dtype)

    def _memory(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Keys and values [K, L, W] of a part that has none."""
        widths = self._spec.head_dim, self._spec.v_head_dim
        keys, values = (
            torch.empty(self._spec.kv_heads, tokens, width, dtype=torch.bfloat16)
            for width in widths
        )
        return keys, values


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
