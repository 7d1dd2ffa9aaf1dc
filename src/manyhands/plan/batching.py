"""Which waiting steps run together and in whose turn, how long to wait, how long chunks are.

Steps of a few tokens (somebody's next token) go first, and one chunk of a prompt may ride with
them: reading the weights, most of a small step's time, is then paid once. Knows nothing of clocks,
engines or messages: it answers pure questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MOST_STEPS = 32
"""Steps in one batch."""

SHORT_TOKENS = 8
"""A step of no more is somebody's next token, with a draft perhaps; a longer one is a chunk."""

LEAST_CHUNK = 16
"""Tokens; smaller chunks cost more in weights read than they spare others."""

PATIENCE = 0.2
"""The part of a step's time that a batch may wait for sessions that are about to come back."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The next step of one session that waits at a peer.

    Only steps of one `engine` can run together. `turn` is when the session was last served, a
    number that grows. `is_behind_chunk`: it has waited while a chunk was computed.
    """

    engine: int
    tokens: int
    turn: int
    is_behind_chunk: bool = False

    @property
    def is_short(self) -> bool:
        """Somebody waits for one token."""
        return self.tokens <= SHORT_TOKENS


def together(waiting: Sequence[Waiting], most_tokens: int) -> list[int]:
    """The places in `waiting` (in order of arrival) of the steps that are to run now, together.

    The engine is that of whoever was served longest ago. Of its steps all short ones run, up to
    `MOST_STEPS`, and beside them one chunk, of the session served longest ago: so prompts go on
    whatever happens, and by turns. A short step that has already waited for a chunk does not wait
    for a second one. Where nobody waits for a token, chunks run together up to `most_tokens`.
    """
    if not waiting:
        return []
    order = sorted(range(len(waiting)), key=lambda place: (waiting[place].turn, place))
    engine = waiting[order[0]].engine
    mine = [place for place in order if waiting[place].engine == engine]
    short = [place for place in mine if waiting[place].is_short]
    chunks = [place for place in mine if not waiting[place].is_short]
    if not short:
        return _up_to(chunks, waiting, most_tokens)
    if any(waiting[place].is_behind_chunk for place in short):
        chunks = []
    return [*short[: MOST_STEPS - len(chunks[:1])], *chunks[:1]]


def _up_to(places: Sequence[int], waiting: Sequence[Waiting], most_tokens: int) -> list[int]:
    """As many from the front as have `most_tokens` in all, and the first one whatever it has."""
    chosen, tokens = [places[0]], waiting[places[0]].tokens
    for place in places[1:MOST_STEPS]:
        tokens += waiting[place].tokens
        if tokens > most_tokens:
            break
        chosen.append(place)
    return chosen


def patience_s(now_s: float, idle_since_s: float, due_s: Iterable[float], step_s: float) -> float:
    """How long a batch may wait for sessions that were answered and are usually back at `due_s`.

    A step takes `step_s` whatever its rows, so one that just misses it waits that long: it is worth
    a small part of it to wait for those who will be here within that part. 0 when nobody is.
    """
    until_s = idle_since_s + PATIENCE * step_s
    soon = [due for due in due_s if now_s < due <= until_s]
    return max(soon, default=now_s) - now_s


def chunk_tokens(most_tokens: int, most_s: float, step_s: Callable[[int], float]) -> int:
    """Tokens of a chunk that holds others up by no more than `most_s`: `most_tokens` or its halves.

    `step_s` says how long a step of so many tokens takes at the slowest stage; others are held up
    by what a chunk takes longer than the single token that they wait for.
    """
    size, least = most_tokens, min(most_tokens, LEAST_CHUNK)
    while size // 2 >= least and step_s(size) - step_s(1) > most_s:
        size //= 2
    return size
