"""The texts of one owner's sessions, live and just ended, that a new session may begin with.

Only the owner's own: how fast an answer begins tells whether somebody asked the same before, and
nobody else shall learn that. Knows nothing of what stages still hold: they say so themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from manyhands.domain.ids import SessionId
from manyhands.domain.work import Route
from manyhands.node.peers import Clock
from manyhands.node.ring import Terms
from manyhands.node.session import Session
from manyhands.plan.prefix import longest_beginning, may_share

MOST_ENDED = 64
"""Texts of ended sessions that are remembered."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """What a session that has ended said, and until when stages may have kept it."""

    terms: Terms
    tokens: tuple[int, ...]
    route: Route
    until_s: float


class Beginnings:
    """Texts that agree with a prompt. `keep_s` is how long stages keep what has ended."""

    def __init__(self, clock: Clock, keep_s: float) -> None:
        self._clock, self._keep_s = clock, keep_s
        self._ended: dict[SessionId, _Ended] = {}

    def ended(self, session: Session) -> None:
        """A session is over: for a while another may begin as it did."""
        if self._keep_s > 0 and session.length:
            tokens = tuple(session.ring.tokens[: session.length])
            until_s = self._clock() + self._keep_s
            one = _Ended(session.terms, tokens, session.ring.route, until_s)
            self._ended[session.terms.session] = one
            while len(self._ended) > MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def forget(self) -> None:
        """Drop what no stage keeps any longer."""
        now_s = self._clock()
        self._ended = {name: one for name, one in self._ended.items() if one.until_s > now_s}

    async def of(
        self, terms: Terms, prompt: Sequence[int], live: Iterable[Session]
    ) -> tuple[SessionId | None, int, Route]:
        """Whose memory to begin with, for how many tokens, and where it is: (None, 0, no stages)
        where there is none. Of sessions that serve equally the first of `live` is taken.

        A live session that is just computing the beginning is waited for: to compute it twice
        would take both of them longer.
        """
        self.forget()
        running = {one.terms.session: one for one in live if _is_alike(one.terms, terms)}
        texts: list[tuple[SessionId, Sequence[int]]]
        texts = [(name, one.ring.tokens) for name, one in running.items()]
        texts += [(n, one.tokens) for n, one in self._ended.items() if _is_alike(one.terms, terms)]
        name, count = longest_beginning(prompt, texts)
        if name in running:
            count = min(count, await running[name].computed(count))
        if name is None or not count:
            return None, 0, Route(())
        route = running[name].ring.route if name in running else self._ended[name].route
        return name, count, route


def _is_alike(one: Terms, other: Terms) -> bool:
    """True where equal tokens mean equal memory."""
    is_same = (one.model, one.profile) == (other.model, other.profile)
    return is_same and may_share(one.spec, one.context_limit, other.context_limit)
