"""The steps that wait at this peer, each session's in its own order, and whose turn it is.

`plan/batching` decides; here is what it decides upon. Knows nothing of the rules of a session, of
engines or of what a step holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from manyhands.domain.ids import SessionId
from manyhands.node.peers import Clock
from manyhands.plan.batching import SHORT_TOKENS, Waiting, patience_s, together

T = TypeVar("T")

Place = tuple[SessionId, int]
"""A session at one of its stages: one peer may be two of them."""

SMOOTHING = 0.3
"""Share of the newest measurement in what is taken as usual."""

LATE_FACTOR = 2.0
"""A session is waited for until it is so many times later than usual."""


@dataclass(slots=True)
class _Item(Generic[T]):
    """Something that waits: `epoch` and `tokens` are all that is known of it here."""

    what: T
    epoch: int
    tokens: int
    is_behind_chunk: bool = False


@dataclass(slots=True)
class _Row(Generic[T]):
    """What waits of one session, oldest first; when it was last served, how soon it comes back."""

    items: deque[_Item[T]] = field(default_factory=deque)
    turn: int = 0
    answered_s: float | None = None
    back_after_s: float | None = None


class Turns(Generic[T]):
    """Use: `add` what arrives; when `patience_s` is 0, `take` some, compute them, call `served`."""

    def __init__(self, clock: Clock, most_tokens: int) -> None:
        self._clock, self._most_tokens = clock, most_tokens
        self._rows: dict[Place, _Row[T]] = {}
        self._count = 0
        self._turn = 0
        self._step_s = 0.0
        self._idle_since_s = clock()
        self._runs_chunk = False

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, place: Place, epoch: int, tokens: int, what: T) -> None:
        """Something arrived for a session."""
        row = self._rows.setdefault(place, _Row(turn=self._turn))
        if row.answered_s is not None:
            after_s = self._clock() - row.answered_s
            usual_s = after_s if row.back_after_s is None else row.back_after_s
            row.back_after_s = usual_s + SMOOTHING * (after_s - usual_s)
            row.answered_s = None
        row.items.append(_Item(what, epoch, tokens, self._runs_chunk))
        self._count += 1

    def drop(self, session: SessionId, before_epoch: int | None = None) -> list[T]:
        """Take out what waits of a session: of older epochs, or all of it, and forget the rest."""
        dropped: list[T] = []
        for place in [place for place in self._rows if place[0] == session]:
            items = self._rows[place].items
            gone = [x for x in items if before_epoch is None or x.epoch < before_epoch]
            dropped += [item.what for item in gone]
            self._count -= len(gone)
            if before_epoch is None:
                del self._rows[place]
            else:
                self._rows[place].items = deque(item for item in items if item not in gone)
        return dropped

    def waiting(self) -> set[SessionId]:
        """Sessions of which something waits."""
        return {session for (session, _), row in self._rows.items() if row.items}

    def patience_s(self) -> float:
        """How long it is worth to wait before `take`; see plan/batching."""
        due_s = [
            row.answered_s + LATE_FACTOR * row.back_after_s
            for row in self._rows.values()
            if row.answered_s is not None and row.back_after_s is not None
        ]
        return patience_s(self._clock(), self._idle_since_s, due_s, self._step_s) if due_s else 0.0

    def take(self, engine: Callable[[Place], int]) -> list[tuple[Place, T]]:
        """Take out what is to be computed now, together; `engine` numbers who computes a place."""
        places = [place for place, row in self._rows.items() if row.items]
        heads = [self._rows[place].items[0] for place in places]
        chosen = [0]
        if len(places) > 1:  # who is alone, mostly, is not kept waiting for the choice
            waiting = [
                Waiting(engine(place), head.tokens, self._rows[place].turn, head.is_behind_chunk)
                for place, head in zip(places, heads, strict=True)
            ]
            chosen = together(waiting, self._most_tokens)
        self._turn += 1
        self._runs_chunk = any(heads[number].tokens > SHORT_TOKENS for number in chosen)
        for head in heads:
            head.is_behind_chunk = head.is_behind_chunk or self._runs_chunk
        taken: list[tuple[Place, T]] = []
        for number in chosen:
            row = self._rows[places[number]]
            row.turn = self._turn
            taken.append((places[number], row.items.popleft().what))
            # Who waits longest comes first: of equal turns, those that were not taken.
            self._rows[places[number]] = self._rows.pop(places[number])
        self._count -= len(taken)
        return taken

    def served(self, places: Iterable[Place], took_s: float) -> None:
        """What was taken is computed and answered."""
        now_s = self._clock()
        for place in places:
            if place in self._rows:
                self._rows[place].answered_s = now_s
        if not self._runs_chunk:
            usual_s = self._step_s or took_s
            self._step_s = usual_s + SMOOTHING * (took_s - usual_s)
        self._idle_since_s, self._runs_chunk = now_s, False
