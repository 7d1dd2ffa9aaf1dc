"""One session's memory in a stage of a transformers model: the library's own cache, kept honest.

The cache has a slot for every block of the whole model. Those of blocks that are not here would
stay empty, and masks and positions, which the model reads off any slot, would be those of an empty
memory: they are replaced by stand-ins of the same kind that hold the length and nothing else. Knows
nothing of models or sessions.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import (
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)

KEPT_STATES = 4
"""A recurrent state cannot be cut, so those behind the last steps are kept to go back to."""

_CUT_EXACTLY = (DynamicLayer, DynamicSlidingWindowLayer, DynamicIndexedLayer)
"""Kinds of slot, these and no refinement, that hold keys of every token and nothing else."""


class ModuleMemory:
    """`cache` goes into the model's forward, then `grown` is called with what was added."""

    def __init__(self, config: Any) -> None:
        self.length = 0
        self._config = config
        self._states: deque[tuple[int, list[Any]]] = deque(maxlen=KEPT_STATES)
        self._begin()

    def _begin(self) -> None:
        made: Any = DynamicCache(config=self._config)
        self.cache = made
        # windows keep every token, as in the block engines: only then can a memory be cut
        made.activate_past_recording()
        self._stand_ins: list[Any] = []
        self._states.clear()
        self.length = 0

    @property
    def kept(self) -> tuple[Any, ...]:
        """All caches."""
        return (self.cache,)

    def grown(self, tokens: int) -> None:
        """A step of `tokens` is through: the stand-ins grow with it, and states are kept."""
        if self.length == 0:
            self._replace_untouched()
        for stand_in in self._stand_ins:
            _lengthen(stand_in, tokens)
        self.length += tokens
        recurrent = self._recurrent()
        if recurrent:
            self._states.append((self.length, [_state_of(slot) for slot in recurrent]))

    def cut(self, position: int) -> bool:
        """Forget all from `position` on; False, nothing done, if the state there is not kept."""
        if position >= self.length:
            return True
        if position <= 0:
            self._begin()
            return True
        recurrent = self._recurrent()
        kept = next((states for at, states in self._states if at == position), None)
        if recurrent and kept is None:
            return False
        for slot, state in zip(recurrent, kept or (), strict=True):
            vars(slot).update(copy.deepcopy(state))
        for slot in self._slots():
            if isinstance(slot, DynamicLayer) and (type(slot) in _CUT_EXACTLY or _is_linear(slot)):
                _cut_keys(slot, position)
        while self._states and self._states[-1][0] > position:
            self._states.pop()
        self.length = position
        return True

    def copy(self, position: int) -> ModuleMemory | None:
        """Another memory of the first `position` tokens; None if the state there is not kept."""
        twin = copy.deepcopy(self)
        return twin if twin.cut(position) else None

    def _slots(self) -> list[Any]:
        """Each slot once: several places may share a stand-in."""
        return list({id(slot): slot for slot in self.cache.layers}.values())

    def _recurrent(self) -> list[Any]:
        return [
            slot
            for slot in self._slots()
            if _is_linear(slot)
            or (hasattr(slot, "get_seq_length") and type(slot) not in _CUT_EXACTLY)
        ]

    def _replace_untouched(self) -> None:
        """Slots that the first step left empty belong to blocks that are elsewhere."""
        made: dict[tuple[type, int | None], Any] = {}
        for place, slot in enumerate(self.cache.layers):
            is_cut = type(slot) in _CUT_EXACTLY or _is_linear(slot)
            if is_cut and not _is_touched(slot):
                kind = (type(slot), getattr(slot, "sliding_window", None))
                self.cache.layers[place] = made.setdefault(kind, slot)
        self._stand_ins = list(made.values())


class SourceMemory:
    """The same of an encoder-decoder: a source of some tokens, then those that the decoder said.

    `rows` [1, S, D] are what the encoder made of the source. Blocks make keys of them in the first
    step of the decoder, and from then on only their number counts.
    """

    def __init__(self, config: Any) -> None:
        self._said = ModuleMemory(config)
        self._across = DynamicCache()
        self._rows: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """What the encoder made of the source. Raises ValueError before it was read."""
        if self._rows is None:
            raise ValueError("the source was not read yet")
        return self._rows

    @property
    def source(self) -> int:
        """Tokens of the source; 0 before it was read."""
        return 0 if self._rows is None else self._rows.shape[1]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return self.source + self._said.length

    @property
    def cache(self) -> EncoderDecoderCache:
        """What goes into the model's forward."""
        return EncoderDecoderCache(self._said.cache, self._across)

    @property
    def kept(self) -> tuple[Any, ...]:
        """The caches, of what was said and across to the source."""
        return self._said.cache, self._across

    def begin(self, rows: Tensor, is_needed: bool) -> None:
        """The source was read; of rows that no block here needs only the number is kept."""
        self._said.cut(0)
        self._across, self._rows = DynamicCache(), rows if is_needed else _number_of(rows)

    def grown(self, tokens: int) -> None:
        """A step of the decoder is through."""
        self._said.grown(tokens)
        self._rows = _number_of(self.rows)

    def cut(self, position: int) -> bool:
        """Forget all from `position` on; False, nothing done, inside the source."""
        if position <= 0:
            self._said.cut(0)
            self._across, self._rows = DynamicCache(), None
            return True
        return position >= self.source and self._said.cut(position - self.source)

    def copy(self, position: int) -> SourceMemory | None:
        """Another memory of the first `position` tokens; None inside the source."""
        twin = copy.deepcopy(self)
        return twin if twin.cut(position) else None


Memory = ModuleMemory | SourceMemory


def memory_of(config: Any, reads_source: bool) -> Memory:
    """An empty memory for a model with this config."""
    return SourceMemory(config) if reads_source else ModuleMemory(config)


def _number_of(rows: Tensor) -> Tensor:
    """As many rows, of zeros that take no memory."""
    return rows.new_zeros(()).expand(rows.shape)


def _is_linear(slot: Any) -> bool:
    return isinstance(slot, LinearAttentionCacheLayerMixin)


def _is_touched(slot: Any) -> bool:
    has_keys = isinstance(slot, DynamicLayer) and slot.get_seq_length() > 0
    return has_keys or (_is_linear(slot) and any(slot.has_previous_state.values()))


def _lengthen(stand_in: Any, tokens: int) -> None:
    if _is_linear(stand_in):
        stand_in.has_previous_state = dict.fromkeys(stand_in.has_previous_state, True)
    if isinstance(stand_in, DynamicLayer):
        nothing = torch.zeros(1, 1, tokens, 1)  # one number a token: an empty one counts as none
        stand_in.update(nothing, nothing)


def _cut_keys(slot: Any, position: int) -> None:
    if slot.is_initialized:
        slot.keys, slot.values = slot.keys[..., :position, :], slot.values[..., :position, :]
    if hasattr(slot, "cumulative_length"):
        slot.cumulative_length = min(slot.cumulative_length, position)
    if getattr(slot, "indexer_keys", None) is not None:
        slot.indexer_keys = slot.indexer_keys[:, :position]
    if getattr(slot, "indexer_position_ids", None) is not None:
        slot.indexer_position_ids = slot.indexer_position_ids[..., :position]


def _state_of(slot: Any) -> dict[str, Any]:
    """What of a slot cannot be cut: all of it, but for keys and values that can."""
    cut = ("keys", "values", "cumulative_length") if _is_linear(slot) else ()
    return {
        name: copy.deepcopy(value)
        for name, value in vars(slot).items()
        if name not in cut and not isinstance(value, torch.device)
    }


def elements(cache: Any) -> int:
    """Numbers that a cache holds now."""
    return sum(_elements(list(vars(slot).values())) for slot in cache.layers)


def _elements(values: list[Any]) -> int:
    total = 0
    for value in values:
        if isinstance(value, Tensor):
            total += value.numel() if value.dim() else 0
        elif isinstance(value, dict):
            total += _elements(list(value.values()))
    return total
