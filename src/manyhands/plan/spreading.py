"""Sessions spread over replicas: what an owner's other sessions leave of each peer, as queues.

Routing then takes the peer where a step waits least. Knows nothing of who else asks those peers, or
of steps that are computed together, which makes waiting shorter than is counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.swarm import Swarm
from manyhands.domain.work import Route
from manyhands.plan.cost import Cost, span_s
from manyhands.plan.routing import route_s

ANSWER_TOKENS = 128
"""An answer is taken to be so long where what is paid once is set beside the cost of a token."""


@dataclass(frozen=True, slots=True)
class Running:
    """So many sessions of a model that have one and the same route."""

    spec: ModelSpec
    cost: Cost
    route: Route
    sessions: int


def queued(swarm: Swarm, owner: PeerId, running: Iterable[Running]) -> Swarm:
    """The swarm with the seconds added that a step would wait at each peer for those of `running`.

    A session is at a peer for that peer's part of its round, and who comes then waits that long.
    """
    waits_s: dict[PeerId, float] = {}
    for one in running:
        if all(peer in swarm.peers for peer in one.route.peers()):
            for peer, seconds in _waits_s(swarm, owner, one):
                waits_s[peer] = waits_s.get(peer, 0.0) + seconds
    return _with_waits(swarm, waits_s)


def _waits_s(swarm: Swarm, owner: PeerId, one: Running) -> Iterable[tuple[PeerId, float]]:
    """Of each peer of its route; a step is `one.sessions` times as likely to find one there."""
    spec, cost = one.spec, one.cost
    round_s = route_s(swarm, spec, owner, one.route, cost)
    for stage in one.route.stages:
        here_s = span_s(spec, stage.span, swarm.peers[stage.peer].device, cost)
        if here_s > 0:
            yield stage.peer, one.sessions * here_s * (here_s / round_s)


def at_home(swarm: Swarm, spec: ModelSpec, cost: Cost, home: Route, shared: int) -> Swarm:
    """The swarm for a session whose first `shared` tokens the peers of `home` have in memory.

    Elsewhere these are computed once more: each token of the answer bears its part of that.
    """
    replay = replace(cost, tokens=max(1, shared))
    waits_s = {
        peer: span_s(spec, spec.span, record.device, replay) / ANSWER_TOKENS
        for peer, record in swarm.peers.items()
        if shared and peer not in home.peers()
    }
    return _with_waits(swarm, waits_s)


def _with_waits(swarm: Swarm, waits_s: Mapping[PeerId, float]) -> Swarm:
    if not waits_s:
        return swarm
    peers = {
        peer: replace(record, queue_s=record.queue_s + waits_s.get(peer, 0.0))
        for peer, record in swarm.peers.items()
    }
    return replace(swarm, peers=peers)
