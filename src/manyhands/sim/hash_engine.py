"""An engine whose memory is a chain of hashes: one wrong or stale entry changes the text.

It computes nothing of use, and 300 kills run in seconds. Same Engine protocol, same errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    Mlp,
    ModelSpec,
    Norm,
    TensorSource,
)
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.engine.engine import Chunk, Hidden, Output
from manyhands.engine.page_table import PAGE_TOKENS, Page, PageTable, pages_of
from manyhands.errors import ContextOverflow, NotServed, SessionUnknown, UserError

WIDTH = 3
"""A 60-bit integer travels as three floats of 20 bits, exact in fp32."""

_PART_BITS, _MASK = 20, (1 << 60) - 1
KERNELS = "hash"
ENTRY_BYTES = 8


def hash_spec(
    blocks: int, vocabulary: int = 64, context: int = 4096, *, causal: bool = True
) -> ModelSpec:
    """A model of `blocks` blocks for this engine; its weights are a few bytes a layer.

    One that is not causal is run as a model that keeps no memory.
    """
    attention = Attention(1, 1, 1, 1, scale=1.0, causal=causal)
    block = BlockSpec(Norm("rms", 1e-5), attention, Mlp("plain", "relu", 1))
    table = {"up": TensorSource(("seed",), (1, 1))}
    return ModelSpec(
        family="hash",
        width=WIDTH,
        vocabulary=vocabulary,
        context=context,
        layers=(
            LayerSpec(EmbedSpec(vocabulary), table),
            *(LayerSpec(block, table) for _ in range(blocks)),
            LayerSpec(HeadSpec(None, "lm", vocabulary), table),
        ),
    )


def hash_profile(weights: str) -> Profile:
    """Integer arithmetic: every row's bits are the same whatever is beside it."""
    return Profile(
        weights=weights,
        weight_format="hash",
        arithmetic="uint60",
        kernels=KERNELS,
        wire_codec="fp32",
        row_invariant=True,
        tolerance=0.0,
    )


def _mix(a: int, b: int) -> int:
    """A bijective-enough mix of two 60-bit numbers (multiply, fold; as in splitmix64)."""
    x = (a * 0x9E3779B97F4A7C15 + b * 0xBF58476D1CE4E5B + 0x94D049BB133111) & _MASK
    x = ((x ^ (x >> 29)) * 0x2545F4914F6CDD1D) & _MASK
    return x ^ (x >> 31)


def _pack(numbers: Sequence[int]) -> Hidden:
    part = (1 << _PART_BITS) - 1
    rows = [[n >> 2 * _PART_BITS, n >> _PART_BITS & part, n & part] for n in numbers]
    return np.array(rows, dtype=np.float32).reshape(len(numbers), WIDTH)


def _unpack(hidden: Hidden) -> list[int]:
    high, middle, low = (hidden[:, i].astype(np.int64).tolist() for i in range(WIDTH))
    return [
        a << 2 * _PART_BITS | b << _PART_BITS | c for a, b, c in zip(high, middle, low, strict=True)
    ]


@dataclass(slots=True)
class _Memory:
    span: Span
    limit: int
    pages: list[Page[None]] = field(default_factory=list)
    chains: list[list[int]] = field(default_factory=list)
    length: int = 0


class HashEngine:
    """See Engine. `token_s` is what one token through one layer is said to cost."""

    def __init__(
        self, spec: ModelSpec, span: Span, *, kv_bytes: int = 1 << 24, token_s: float = 0.001
    ) -> None:
        self._spec, self._span = spec, span
        self._table: PageTable[None] = PageTable(kv_bytes)
        self._token_s = token_s
        self._memories: dict[SessionId, _Memory] = {}

    @property
    def span(self) -> Span:
        """The layers held."""
        return self._span

    @property
    def weight_bytes(self) -> int:
        """As the spec counts them, four bytes a weight."""
        return 4 * sum(x.elements for x in self._spec.layers[self._span.first : self._span.last])

    def open(
        self,
        session: SessionId,
        limit: int,
        parent: SessionId | None = None,
        at: int = 0,
        span: Span | None = None,
    ) -> None:
        """See Engine."""
        if session in self._memories:
            raise UserError(f"session {session} is open already")
        wanted = span or self._span
        if not self._span.covers(wanted):
            raise UserError(f"span {wanted} is not within {self._span}")
        memory = _Memory(wanted, limit, chains=[[] for _ in range(len(wanted))])
        shared: list[Page[None]] = []
        if parent is not None:
            source = self._memory(parent)
            if source.length < at:
                raise UserError(f"session {parent} holds {source.length} tokens, fewer than {at}")
            memory.chains, memory.length = [chain[:at] for chain in source.chains], at
            shared = source.pages[: at // PAGE_TOKENS]
        page_bytes = PAGE_TOKENS * ENTRY_BYTES * len(wanted)
        memory.pages = self._table.give(limit, page_bytes, None, shared)
        self._memories[session] = memory

    def close(self, session: SessionId) -> None:
        """See Engine."""
        memory = self._memories.pop(session, None)
        if memory is not None:
            self._table.take_back(memory.pages)

    def step(self, batch: Sequence[Chunk]) -> list[Output]:
        """See Engine."""
        for chunk in batch:
            self._check(chunk)
        return [self._run(self._memory(chunk.session), chunk) for chunk in batch]

    def trim(self, session: SessionId) -> None:
        """See Engine."""
        memory = self._memory(session)
        memory.limit, count = memory.length, pages_of(memory.length)
        beyond, memory.pages = memory.pages[count:], memory.pages[:count]
        self._table.take_back(beyond)

    def truncate(self, session: SessionId, position: int) -> None:
        """See Engine."""
        memory = self._memory(session)
        memory.length = min(memory.length, position)

    def length(self, session: SessionId) -> int:
        """See Engine."""
        return self._memory(session).length

    def room(self) -> int:
        """See Engine."""
        return self._table.room()

    def forward(self, token_ids: Sequence[int], hidden: Hidden | None) -> Output:
        """See Engine."""
        chains: list[list[int]] = [[] for _ in range(len(self._span))]
        memory = _Memory(self._span, len(token_ids), chains=chains)
        rows = tuple(range(len(token_ids)))
        return self._run(memory, Chunk(SessionId(""), 0, tuple(token_ids), hidden, rows))

    def cost_s(self, batch: Sequence[Chunk]) -> float:
        """See Engine."""
        return self._token_s * len(self._span) * sum(len(chunk.token_ids) for chunk in batch)

    def _memory(self, session: SessionId) -> _Memory:
        memory = self._memories.get(session)
        if memory is None:
            raise SessionUnknown(f"session {session} is not open here")
        return memory

    def _check(self, chunk: Chunk) -> None:
        memory = self._memory(chunk.session)
        if chunk.side:
            raise NotServed(f"side tensors {', '.join(chunk.side)} are of no use here")
        last = chunk.position + len(chunk.token_ids)
        if last > memory.limit:
            raise ContextOverflow(f"{last} tokens are more than the {memory.limit} of the session")
        if chunk.position > memory.length:
            raise UserError(f"position {chunk.position} is beyond the length {memory.length}")
        if (chunk.hidden is None) != (memory.span.first == 0):
            raise UserError(
                "hidden states come in exactly where the span starts above the embedding"
            )
        if any(not 0 <= token < self._spec.vocabulary for token in chunk.token_ids):
            raise UserError("a token id is outside the vocabulary")

    def _run(self, memory: _Memory, chunk: Chunk) -> Output:
        numbers = list(chunk.token_ids) if chunk.hidden is None else _unpack(chunk.hidden)
        for chain, layer in zip(
            memory.chains, range(memory.span.first, memory.span.last), strict=True
        ):
            # entries beyond the length stay, stale, as in a real cache: only the length hides them
            for row, number in enumerate(numbers):
                at = chunk.position + row
                before = chain[at - 1] if at else layer + 1
                state = _mix(before, _mix(number, layer))
                if at < len(chain):
                    chain[at] = state
                else:
                    chain.append(state)
                numbers[row] = state
        memory.length = chunk.position + len(chunk.token_ids)
        if memory.span.last < len(self._spec.layers):
            return Output(_pack(numbers))
        kept = [numbers[row] for row in chunk.rows]
        return Output(_pack(kept), self._scores(kept))

    def _scores(self, numbers: Sequence[int]) -> Hidden:
        """A score for each token, all different, from the number alone."""
        size = self._spec.vocabulary
        scores = np.zeros((len(numbers), size), dtype=np.float32)
        for row, number in enumerate(numbers):
            scores[row] = np.arange(size) * (1 + (number >> 8) % 1009) % 1013 / 101.0
            scores[row, number % size] = 11.0
        return scores
