"""The quickest route of one session: which peer runs which layer, from holdings as they stand.

Knows nothing of loading or moving weights; who else wants the peers shows in their queues only.
The layers are a row, so the shortest path over (peer, layer) is found layer by layer. Memory is
shared by all stages a peer gets in the route, which makes the path's past matter: ways to the same
(peer, layer) are kept beside each other where one is quicker and the other leaves more room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import inf, isfinite

from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import HoldingState, PeerRecord, Swarm
from manyhands.domain.work import Route, Stage
from manyhands.plan.cost import (
    Cost,
    answer_bytes,
    hidden_bytes,
    kv_bytes,
    layer_work,
    link_between,
    link_s,
    prompt_bytes,
    weight_bytes,
    work_s,
)

Ends = tuple[PeerId, PeerId]

Extra = Callable[[PeerId, int], float | None]
"""(peer, layer) -> seconds this layer costs there beside its step; None forbids it there."""

Need = Callable[[PeerId, int], int]
"""(peer, layer) -> bytes of the peer's room this layer takes."""

READY: frozenset[HoldingState] = frozenset({"ready"})
LOADABLE: frozenset[HoldingState] = frozenset({"ready", "stored"})

WAYS_KEPT = 8
"""Ways to one (peer, layer) that are neither quicker nor roomier than each other; beyond it the
quickest stay, so that no set of records, however odd, makes routing slow."""

Hop = Callable[[PeerId, PeerId, int], float | None]
"""(source, target, bytes) -> seconds, None where nothing may be sent."""


@dataclass(frozen=True, slots=True)
class _Way:
    """The first layers placed: seconds so far, (peer, first layer) of each stage, room used."""

    seconds: float
    stages: tuple[tuple[PeerId, int], ...]
    used: Mapping[PeerId, int]

    def key(self) -> tuple[float, int, tuple[tuple[PeerId, int], ...]]:
        """Quickest first, then fewest stages, then the peers' ids: never chance."""
        return self.seconds, len(self.stages), self.stages

    def leaves_as_much(self, other: _Way) -> bool:
        """True when no peer has less room left than in `other`."""
        return all(used <= other.used.get(peer, 0) for peer, used in self.used.items())


def holders(
    swarm: Swarm, model: ModelId, layer: int, states: frozenset[HoldingState] = READY
) -> tuple[PeerId, ...]:
    """Peers with a holding of this layer in one of `states`, by id."""
    return tuple(
        peer for peer, record in sorted(swarm.peers.items()) if _holds(record, model, layer, states)
    )


def memory_need(swarm: Swarm, spec: ModelSpec, model: ModelId, tokens: int, cost: Cost) -> Need:
    """The room a new session of `tokens` tokens takes: its memory, and weights not loaded yet."""

    @cache
    def need(peer: PeerId, layer: int) -> int:
        span = Span(layer, layer + 1)
        room = kv_bytes(spec, span, tokens, cost)
        loaded = _holds(swarm.peers[peer], model, layer, READY)
        return room if loaded else room + weight_bytes(spec, span, cost)

    return need


def route(
    swarm: Swarm,
    spec: ModelSpec,
    model: ModelId,
    owner: PeerId,
    cost: Cost,
    *,
    exclude_peers: frozenset[PeerId] = frozenset(),
    exclude_links: frozenset[Ends] = frozenset(),
    extra_s: Extra | None = None,
    need: Need | None = None,
    states: frozenset[HoldingState] = READY,
) -> Route | None:
    """The route whose steps come round quickest; None when no allowed route covers the model.

    Counted are each layer's step, each stage's queue, each link from owner to owner, and `extra_s`.
    Broken and excluded links are never used, an unmeasured one counts as `cost` says. Of ways with
    equal seconds the one with fewer stages, then the lower peer ids, is taken. `need` (see
    `memory_need`) keeps what a peer is given within its `room_bytes`; without it room is not asked.
    """
    hosts = _hosts(swarm, spec, model, cost, exclude_peers, extra_s, states)
    tight = _tight(swarm, hosts, need)
    hop = _hops(swarm, cost, exclude_links)
    least_s = -inf if tight else _least_latency_s(swarm, cost)
    hidden = hidden_bytes(spec, cost)
    ways = {owner: [_Way(0.0, (), {})]}
    for layer, seconds_at in enumerate(hosts):
        size = hidden if layer else prompt_bytes(cost)
        reached: dict[PeerId, list[_Way]] = {}
        for peer, seconds in seconds_at.items():
            record = swarm.peers[peer]
            ways_here = _arrive(ways, record, layer, size, hop, least_s)
            if peer in tight and need is not None:
                ways_here = _fill(ways_here, record, need(peer, layer))
            reached[peer] = [
                _Way(way.seconds + seconds, way.stages, way.used) for way in _best(ways_here)
            ]
        ways = {
            peer: kept
            for peer, kept in sorted(reached.items(), key=lambda at: _soonest(at[1]))
            if kept
        }
    return _home(ways, owner, hop, len(hosts))


def route_s(
    swarm: Swarm,
    spec: ModelSpec,
    owner: PeerId,
    route: Route,
    cost: Cost,
    *,
    extra_s: Extra | None = None,
) -> float:
    """Seconds of one step round `route`, counted as `route()` counts."""
    ends = (owner, *(stage.peer for stage in route.stages), owner)
    sizes = (
        prompt_bytes(cost),
        *(hidden_bytes(spec, cost) for _ in route.stages[1:]),
        answer_bytes(),
    )
    total = sum(
        link_s(link_between(swarm, source, target, cost), size)
        for (source, target), size in zip(pairwise(ends), sizes, strict=True)
    )
    for stage in route.stages:
        record = swarm.peers[stage.peer]
        total += record.queue_s
        for layer in range(stage.span.first, stage.span.last):
            total += work_s(layer_work(spec.layers[layer], cost), record.device)
            total += (extra_s(stage.peer, layer) or 0.0) if extra_s is not None else 0.0
    return total


def _holds(record: PeerRecord, model: ModelId, layer: int, states: frozenset[HoldingState]) -> bool:
    return any(
        held.model == model and held.state in states and layer in held.span
        for held in record.holdings
    )


def _hosts(
    swarm: Swarm,
    spec: ModelSpec,
    model: ModelId,
    cost: Cost,
    exclude_peers: frozenset[PeerId],
    extra_s: Extra | None,
    states: frozenset[HoldingState],
) -> list[dict[PeerId, float]]:
    """For each layer the peers that may run it, by id, with the layer's seconds there."""
    hosts: list[dict[PeerId, float]] = []
    for number, layer in enumerate(spec.layers):
        work = layer_work(layer, cost)
        seconds_at: dict[PeerId, float] = {}
        for peer in holders(swarm, model, number, states):
            extra = extra_s(peer, number) if extra_s is not None else 0.0
            seconds = work_s(work, swarm.peers[peer].device)
            if peer not in exclude_peers and extra is not None and isfinite(seconds):
                seconds_at[peer] = seconds + extra
        hosts.append(seconds_at)
    return hosts


def _tight(swarm: Swarm, hosts: list[dict[PeerId, float]], need: Need | None) -> frozenset[PeerId]:
    """Peers that cannot take every layer they may run: only their room has to be watched."""
    if need is None:
        return frozenset()
    total: dict[PeerId, int] = {}
    for layer, seconds_at in enumerate(hosts):
        for peer in seconds_at:
            total[peer] = total.get(peer, 0) + need(peer, layer)
    return frozenset(peer for peer, size in total.items() if size > swarm.peers[peer].room_bytes)


def _hops(swarm: Swarm, cost: Cost, exclude_links: frozenset[Ends]) -> Hop:
    @cache
    def hop(source: PeerId, target: PeerId, size_bytes: int) -> float | None:
        ends = (source, target)
        if source != target and (ends in swarm.broken or ends in exclude_links):
            return None
        seconds = link_s(link_between(swarm, source, target, cost), size_bytes)
        return seconds if isfinite(seconds) else None

    return hop


def _least_latency_s(swarm: Swarm, cost: Cost) -> float:
    """No link between two peers takes less."""
    return min([cost.latency_s, *(link.latency_s for link in swarm.links.values())])


def _soonest(ways: list[_Way]) -> float:
    return ways[0].seconds if ways else inf


def _arrive(
    ways: Mapping[PeerId, list[_Way]],
    record: PeerRecord,
    layer: int,
    size_bytes: int,
    hop: Hop,
    least_s: float,
) -> list[_Way]:
    """Every way to the door of `layer` at this peer: staying there, or over a link as a new stage.

    `ways` come soonest first, and no link takes less than `least_s`: sources from which nothing can
    arrive sooner than the best already does are not looked at (-inf where room matters too).
    """
    peer = record.peer
    arrived = list(ways.get(peer, ())) if layer > 0 else []
    soonest = _soonest(arrived)
    for source, kept in ways.items():
        if kept[0].seconds + least_s + record.queue_s > soonest:
            break
        link = hop(source, peer, size_bytes)
        if link is None or (source == peer and layer > 0):
            continue
        for way in kept:
            seconds = way.seconds + link + record.queue_s
            soonest = min(soonest, seconds)
            arrived.append(_Way(seconds, (*way.stages, (peer, layer)), way.used))
    return arrived


def _fill(ways: Iterable[_Way], record: PeerRecord, size: int) -> list[_Way]:
    """The ways that leave this peer room for `size` bytes more, with them taken."""
    filled = []
    for way in ways:
        used = way.used.get(record.peer, 0) + size
        if used <= record.room_bytes:
            filled.append(_Way(way.seconds, way.stages, {**way.used, record.peer: used}))
    return filled


def _best(ways: list[_Way]) -> list[_Way]:
    """The ways that no quicker one also beats in room left."""
    kept: list[_Way] = []
    for way in sorted(ways, key=_Way.key):
        if len(kept) == WAYS_KEPT:
            break
        if not any(better.leaves_as_much(way) for better in kept):
            kept.append(way)
    return kept


def _home(ways: Mapping[PeerId, list[_Way]], owner: PeerId, hop: Hop, layers: int) -> Route | None:
    """The best way with the answer's link to the owner added, as a Route."""
    ended = []
    for peer, kept in ways.items():
        link = hop(peer, owner, answer_bytes())
        if link is not None:
            ended += [_Way(way.seconds + link, way.stages, way.used) for way in kept]
    if not ended:
        return None
    stages = min(ended, key=_Way.key).stages
    ends = (*(first for _, first in stages[1:]), layers)
    return Route(
        tuple(
            Stage(peer, Span(first, last)) for (peer, first), last in zip(stages, ends, strict=True)
        )
    )
