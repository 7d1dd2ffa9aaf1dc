"""The Engine that both block interpreters share: sessions, their rules, memory; a Program computes.

Everything that can be refused is refused before anything is changed. Knows no array library: a
Program (numpy or torch) turns parts into outputs and writes keys and values where it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.device import Device
from manyhands.domain.ids import SessionId, short
from manyhands.domain.model_spec import Attention, BlockSpec, EmbedSpec, ModelSpec
from manyhands.domain.sizes import span_elements
from manyhands.domain.span import Span
from manyhands.engine.engine import Chunk, Hidden, Output
from manyhands.engine.kv_cache import Array, BlockShape, KvCache
from manyhands.errors import ContextOverflow, NotServed, UserError
from manyhands.plan.cost import Cost, span_s

A = TypeVar("A", bound=Array)


@dataclass(frozen=True, slots=True)
class Part(Generic[A]):
    """One session's share of a run. `blocks` are its (keys, values) [heads, C, width] a block.

    The first pair belongs to the first block of the span that is run. New keys and values go to
    places position … position+T-1, those before are read. Without memory
    (`blocks` None, position 0) only the part's own are. `hidden` are patches where an embedding of
    images runs. `is_long` chooses the long frequencies. `places` are where `blocks` lie, see
    kv_cache.
    """

    position: int
    token_ids: tuple[int, ...]
    hidden: Hidden | None
    rows: tuple[int, ...]
    is_long: bool
    blocks: Sequence[tuple[A, A]] | None
    places: NDArray[np.int64] | None = None

    @property
    def end(self) -> int:
        """The position behind the last token."""
        return self.position + len(self.token_ids)


class Program(Protocol[A]):
    """A span's arithmetic; called with parts that have been checked."""

    @property
    def weight_bytes(self) -> int:
        """Bytes its weights take in memory."""

    def run(self, parts: Sequence[Part[A]], span: Span) -> list[Output]:
        """Each part's output after the layers of `span`, which are all held.

        Linears run over the rows of all parts at once.
        """


def block_shapes(spec: ModelSpec, span: Span) -> list[BlockShape]:
    """What each block of a span keeps of a token; no block of a model that keeps no memory."""
    if not spec.keeps_memory:
        return []
    attentions = [
        layer.part.attention
        for layer in spec.layers[span.first : span.last]
        if isinstance(layer.part, BlockSpec)
    ]
    return [_block_shape(attention) for attention in attentions]


def _block_shape(attention: Attention) -> BlockShape:
    if attention.latent is None:
        return BlockShape(attention.kv_heads, attention.head_dim, attention.v_head_dim)
    # The latent and its rotary key beside each other, as one key; values are made of the latent.
    return BlockShape(1, attention.latent.kv_rank + attention.latent.rope, 0)


class BlockEngine(Generic[A]):
    """An Engine (see engine.py for the contract of each method) over a Program and a KvCache.

    A rope with long frequencies is chosen by a session's limit: one opened for more tokens than
    `switch_at` uses the long ones from its first token, so that no memory ever mixes the two. The
    owner opens with `switch_at` as the limit and, when that overflows, again with a larger one.
    """

    def __init__(
        self,
        spec: ModelSpec,
        span: Span,
        program: Program[A],
        cache: KvCache[A],
        device: Device | None = None,
    ) -> None:
        self._spec = spec
        self._span = span
        self._program = program
        self._cache = cache
        self._device = device
        self._spans: dict[SessionId, Span] = {}
        self._limits: dict[SessionId, int] = {}
        self._keeps_memory = spec.keeps_memory
        ropes = [block.attention.rope for block in spec.blocks]
        self._switches = frozenset(
            rope.switch_at for rope in ropes if rope is not None and rope.switch_at is not None
        )

    @property
    def span(self) -> Span:
        """The layers this engine holds."""
        return self._span

    @property
    def weight_bytes(self) -> int:
        """Bytes its weights take in memory."""
        return self._program.weight_bytes

    def open(
        self,
        session: SessionId,
        limit: int,
        parent: SessionId | None = None,
        at: int = 0,
        span: Span | None = None,
    ) -> None:
        """Begin a memory; also raises ContextOverflow for a limit over the model's context."""
        span = self._span if span is None else span
        if not self._span.covers(span):
            raise UserError(f"span {span} is not held here, {self._span} is; check the route")
        if limit > self._spec.context:
            raise ContextOverflow(
                f"a session of {limit} tokens is over the model's context of {self._spec.context}"
            )
        if parent is not None:
            self._cache.memory(parent)  # raises SessionUnknown
            theirs = self._limits[parent]
            if self._spans[parent] != span:
                raise UserError(
                    f"a session over span {span} cannot share the memory of one over "
                    f"{self._spans[parent]}; open it empty"
                )
            if any(self._is_long(limit, s) != self._is_long(theirs, s) for s in self._switches):
                raise UserError(
                    f"a session of {limit} tokens cannot share the memory of one of {theirs}: "
                    "between them the model changes its rotary frequencies; open it empty"
                )
        self._cache.open(session, limit, block_shapes(self._spec, span), parent, at)
        self._spans[session], self._limits[session] = span, limit

    def close(self, session: SessionId) -> None:
        """Free a session's memory; unknown sessions are no error."""
        self._cache.close(session)
        self._spans.pop(session, None)
        self._limits.pop(session, None)

    def step(self, batch: Sequence[Chunk]) -> list[Output]:
        """Run each chunk through its span and remember it; those of one span run together."""
        if not batch:
            return []
        if len({chunk.session for chunk in batch}) < len(batch):
            raise UserError("a batch holds two chunks of one session; send one after the other")
        for chunk in batch:
            self._check(chunk)
        for chunk in batch:
            end = chunk.position + len(chunk.token_ids)
            self._cache.write_at(chunk.session, chunk.position, end)
        memories = [self._cache.memory(chunk.session) for chunk in batch]
        parts = [
            Part(
                position=chunk.position,
                token_ids=chunk.token_ids,
                hidden=chunk.hidden,
                rows=chunk.rows,
                is_long=any(self._is_long(self._limits[chunk.session], s) for s in self._switches),
                blocks=memory.blocks if self._keeps_memory else None,
                places=memory.places if self._keeps_memory else None,
            )
            for chunk, memory in zip(batch, memories, strict=True)
        ]
        for chunk, memory in zip(batch, memories, strict=True):
            # What the run is about to write over is no memory any more, should it fail half way.
            memory.length = chunk.position
        outputs = self._run([self._spans[chunk.session] for chunk in batch], parts)
        for part, memory in zip(parts, memories, strict=True):
            memory.length = part.end
        return outputs

    def _run(self, spans: Sequence[Span], parts: Sequence[Part[A]]) -> list[Output]:
        if len(set(spans)) == 1:
            return self._program.run(parts, spans[0])
        outputs: dict[int, Output] = {}
        for span in dict.fromkeys(spans):
            places = [place for place, theirs in enumerate(spans) if theirs == span]
            some = self._program.run([parts[place] for place in places], span)
            outputs.update(zip(places, some, strict=True))
        return [outputs[place] for place in range(len(parts))]

    def trim(self, session: SessionId) -> None:
        """Give back what the session reserved beyond its length."""
        self._cache.trim(session)

    def truncate(self, session: SessionId, position: int) -> None:
        """Forget everything from `position` on."""
        self._cache.truncate(session, position)

    def length(self, session: SessionId) -> int:
        """Tokens in memory."""
        return self._cache.memory(session).length

    def room(self) -> int:
        """Key/value bytes still free."""
        return self._cache.room()

    def forward(self, token_ids: Sequence[int], hidden: Hidden | None) -> Output:
        """Run a whole sequence from position 0 without memory."""
        tokens = tuple(token_ids)
        rows = tuple(range(len(tokens)))
        self._check_form(self._span, tokens, hidden, rows, "this sequence")
        if len(tokens) > self._spec.context:
            raise ContextOverflow(
                f"{len(tokens)} tokens are over the model's context of {self._spec.context}"
            )
        is_long = any(self._is_long(len(tokens), s) for s in self._switches)
        part: Part[A] = Part(0, tokens, hidden, rows, is_long, None)
        return self._program.run([part], self._span)[0]

    def cost_s(self, batch: Sequence[Chunk]) -> float:
        """Predicted seconds of a step by `plan/cost`; 0 when the device was not measured.

        Of several sessions, each row is counted as if it looked at all their memories: reading
        (which decides) is right, multiplying a little too much.
        """
        if self._device is None or not batch:
            return 0.0
        bytes_per_weight = self.weight_bytes / max(1, span_elements(self._spec, self._span))
        spans = [self._spans.get(chunk.session, self._span) for chunk in batch]
        total_s = 0.0
        for span in dict.fromkeys(spans):
            chunks = [chunk for chunk, theirs in zip(batch, spans, strict=True) if theirs == span]
            cost = Cost(
                bytes_per_weight=bytes_per_weight,
                bytes_per_kv=float(self._cache.element_bytes),
                tokens=sum(len(chunk.token_ids) for chunk in chunks),
                context=sum(chunk.position for chunk in chunks),
            )
            total_s += span_s(self._spec, span, self._device, cost)
        return total_s

    @staticmethod
    def _is_long(tokens: int, switch_at: int) -> bool:
        return tokens > switch_at

    def _check(self, chunk: Chunk) -> None:
        name = f"session {short(chunk.session)}"
        if chunk.side:
            raise NotServed(f"{name}: side tensors {', '.join(chunk.side)} are of no use here")
        length = self._cache.memory(chunk.session).length
        if not 0 <= chunk.position <= length:
            raise UserError(
                f"{name}: a step at position {chunk.position}, but memory holds {length} tokens; "
                f"send positions from {length} or below"
            )
        if chunk.position and not self._keeps_memory:
            raise UserError(
                f"{name}: a step at position {chunk.position} of a model that keeps no memory; "
                "send the whole sequence from position 0"
            )
        span = self._spans[chunk.session]
        self._check_form(span, chunk.token_ids, chunk.hidden, chunk.rows, name)

    def _check_form(
        self,
        span: Span,
        tokens: tuple[int, ...],
        hidden: Hidden | None,
        rows: tuple[int, ...],
        name: str,
    ) -> None:
        entry = self._spec.layers[span.first].part
        if not tokens:
            raise UserError(f"{name}: a step of no tokens; send at least one")
        if not 0 <= min(tokens) <= max(tokens) < self._spec.vocabulary:
            wrong = next(t for t in tokens if not 0 <= t < self._spec.vocabulary)
            raise UserError(
                f"{name}: token id {wrong} is outside the vocabulary of {self._spec.vocabulary}; "
                "use this model's tokenizer"
            )
        if rows and not 0 <= min(rows) <= max(rows) < len(tokens):
            raise UserError(f"{name}: rows {rows} wanted of a step of {len(tokens)} tokens")
        shape = (len(tokens), self._spec.width)
        image = entry.patches if isinstance(entry, EmbedSpec) else None
        if image is not None:
            shape = image.squares, image.elements
            if len(tokens) != self._spec.context:
                raise UserError(
                    f"{name}: an image of {image.height} x {image.width} pixels is "
                    f"{self._spec.context} tokens here, not {len(tokens)}"
                )
        embeds = isinstance(entry, EmbedSpec) and image is None
        if (hidden is None) != embeds:
            said = "takes token ids alone" if embeds else "needs hidden states or patches"
            raise UserError(f"{name}: span {span} {said}; check the route")
        if hidden is not None and (hidden.shape != shape or hidden.dtype != np.float32):
            raise UserError(
                f"{name}: what came in is {hidden.dtype} {list(hidden.shape)}, this step needs "
                f"float32 {list(shape)}"
            )
