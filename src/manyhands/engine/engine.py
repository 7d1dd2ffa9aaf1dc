"""The engine waist: what every engine offers and how its work is asked for.

An engine is one loaded span on one device. It is synchronous and called on the compute thread only.
Knows nothing of peers, routes, sampling or the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import ModelSpec, TensorSource
from manyhands.domain.span import Span
from manyhands.domain.tensor_frame import StoredTensor

Hidden = NDArray[np.float32]
"""[T tokens, D width]"""

Weights = Callable[[TensorSource], StoredTensor]
"""Reads one tensor from wherever the weights are; only bytes of the span asked for are touched.

`rows` layouts come already cut; every other layout comes as stored.
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One session's part of a batch: tokens at explicit positions, and what comes in for them.

    `hidden` [T, D] is None exactly where the session's span starts with an embedding of token ids;
    an embedding of images is given one there, [squares, channels * kernel * kernel] as its
    `Patches` say. `rows` are the rows of this chunk (0 … T-1) whose output is wanted; a span that
    ends below the head returns all T rows whatever `rows` says, since the next stage needs them.
    `side` are tensors that came beside: an engine refuses those it does not know.
    """

    session: SessionId
    position: int
    token_ids: tuple[int, ...]
    hidden: Hidden | None
    rows: tuple[int, ...]
    side: Mapping[str, Hidden] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gives: `hidden` [T, D] below the head, `scores` [len(rows), V] from the head.

    With the head, `hidden` is [len(rows), D], normed, the vectors the scores were made from. A head
    that pools or classifies gives `pooled` [1, outputs] of the whole chunk in place of scores.
    """

    hidden: Hidden
    scores: NDArray[np.float32] | None = None
    pooled: NDArray[np.float32] | None = None


class Engine(Protocol):
    """One loaded span. A method that raises (ResourceError, UserError) has changed nothing."""

    @property
    def span(self) -> Span:
        """The layers this engine holds."""

    @property
    def weight_bytes(self) -> int:
        """Bytes its weights take in memory."""

    def open(
        self,
        session: SessionId,
        limit: int,
        parent: SessionId | None = None,
        at: int = 0,
        span: Span | None = None,
    ) -> None:
        """Begin a memory for `limit` tokens: empty, or beginning with `parent`'s first `at` tokens.

        All it may ever need is set aside now; what it shares with its parent, who may go on or be
        closed, counts once. Only the layers of `span` are run for this session (all that are
        loaded, if None); a parent must have the same. Raises UserError when the session is open
        already, `span` is not held, or `parent` holds fewer than `at`, MemoryFull when there is no
        room now, ResourceError when there never is.
        """

    def close(self, session: SessionId) -> None:
        """Free a session's memory; unknown sessions are no error."""

    def step(self, batch: Sequence[Chunk]) -> list[Output]:
        """Run each chunk through the span and remember its keys and values at its positions.

        A model that keeps no memory sees a chunk as a whole sequence; it must be at position 0.
        One with a `source` reads the chunk at position 0 as the whole of it, and says nothing of it
        (`rows` is empty).
        A chunk at `position` < length cuts the memory there first. The length is committed after
        the last layer, so a step that failed half way is repeated harmlessly. At most one chunk a
        session.
        Raises SessionUnknown, ContextOverflow (over the limit), UserError (position > length, or
        above 0 without memory, token id outside the vocabulary, hidden of the wrong shape).
        """

    def trim(self, session: SessionId) -> None:
        """Give back what a session set aside beyond its length, which becomes its limit."""

    def truncate(self, session: SessionId, position: int) -> None:
        """Forget everything from `position` on; no error when memory is shorter.

        Where a library's memory cannot be cut, as inside a source, the session is closed and
        SessionUnknown raised.
        """

    def length(self, session: SessionId) -> int:
        """Tokens in memory."""

    def room(self) -> int:
        """Key/value bytes still free."""

    def forward(self, token_ids: Sequence[int], hidden: Hidden | None) -> Output:
        """Run a whole sequence from position 0 without memory; every row's output."""

    def cost_s(self, batch: Sequence[Chunk]) -> float:
        """Predicted seconds of a step: what virtual time sleeps, and what plans count with."""


class Load(Protocol):
    """How an engine module makes an Engine; each module has one function of this form, `load`."""

    def __call__(
        self, spec: ModelSpec, span: Span, weights: Weights, *, kv_bytes: int, **options: Any
    ) -> Engine:
        """Read the span's tensors and make them ready.

        Raises CheckpointError, ResourceError, NotServed.
        """
