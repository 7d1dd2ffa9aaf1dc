"""What goes wrong in a session's life, and which peers and links are suspected for a while."""

from __future__ import annotations

from manyhands.domain.ids import PeerId
from manyhands.errors import ManyhandsError
from manyhands.node.peers import Clock
from manyhands.plan.routing import Ends


class Setback(Exception):
    """The epoch cannot go on. Stays in the session: it ends in a new epoch or a typed error.

    `lost` and `broken` are to be avoided; `cause` is what a peer refused; `said_by` complained
    without naming anybody, which it may do once.
    """

    def __init__(
        self,
        reason: str,
        lost: frozenset[PeerId] = frozenset(),
        broken: frozenset[Ends] = frozenset(),
        cause: ManyhandsError | None = None,
        said_by: PeerId | None = None,
    ) -> None:
        super().__init__(reason)
        self.lost, self.broken, self.cause, self.said_by = lost, broken, cause, said_by


class Suspicions:
    """Peers and links that failed a session; each is forgiven after a while."""

    def __init__(self, clock: Clock, forgive_after_s: float) -> None:
        self._clock, self._forgive_after_s = clock, forgive_after_s
        self._peers: dict[PeerId, float] = {}
        self._links: dict[Ends, float] = {}

    def add(self, setback: Setback) -> None:
        """Note what a setback names."""
        until_s = self._clock() + self._forgive_after_s
        self._peers.update(dict.fromkeys(sorted(setback.lost), until_s))
        self._links.update(dict.fromkeys(sorted(setback.broken), until_s))

    def peers(self) -> frozenset[PeerId]:
        """Peers not to be used now."""
        now_s = self._clock()
        return frozenset(peer for peer, until_s in self._peers.items() if until_s > now_s)

    def links(self) -> frozenset[Ends]:
        """Links not to be used now."""
        now_s = self._clock()
        return frozenset(ends for ends, until_s in self._links.items() if until_s > now_s)
