"""The least to redo when part of a route is lost: who stands in, and who replays what to whom.

Knows nothing of epochs in flight or of messages: it answers two pure questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, product

from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.swarm import HoldingState, Swarm
from manyhands.domain.work import Route, Stage
from manyhands.plan.cost import Cost, layer_work, load_s, work_s
from manyhands.plan.routing import (
    LOADABLE,
    READY,
    Ends,
    Extra,
    holders,
    memory_need,
    route,
    route_s,
)

OWNER = -1
"""The owner's place in a route: before the first stage; its journal is the text itself."""

DISK_BYTES_PER_S = 200e6
"""How fast a stand-in is taken to read weights that it has not loaded."""

OTHER_KERNELS_S = 1e4
"""Added to stand-ins of another kernel set, so that one of the same set is always preferred."""

MOST_CHOICES = 64
"""Ways of choosing which end of each broken link to replace that are compared."""


@dataclass(frozen=True, slots=True)
class ReplaySpan:
    """Stage `source` sends positions [first, last) of its journal again, up to stage `through`."""

    source: int
    through: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What recovery must know of a session: its model, owner, profile, route and length."""

    model: ModelId
    owner: PeerId
    profile: Profile
    route: Route
    position: int
    context_limit: int


def new_route(
    swarm: Swarm,
    spec: ModelSpec,
    facts: Facts,
    cost: Cost,
    *,
    lost: frozenset[PeerId] = frozenset(),
    broken: frozenset[Ends] = frozenset(),
) -> Route | None:
    """The best route for a session that holds nothing yet: loaded spans if they cover the model."""
    for states in (READY, LOADABLE):
        found = route(
            swarm,
            spec,
            facts.model,
            facts.owner,
            cost,
            exclude_peers=lost,
            exclude_links=broken,
            extra_s=_kernels_extra(swarm, facts.profile),
            need=memory_need(swarm, spec, facts.model, facts.context_limit, cost),
            states=states,
        )
        if found is not None:
            return _as_stages(swarm, facts.model, found, ())
    return None


def stand_ins(
    swarm: Swarm,
    spec: ModelSpec,
    facts: Facts,
    cost: Cost,
    *,
    lost: frozenset[PeerId],
    broken: frozenset[Ends],
) -> Route | None:
    """The session's route with every lost stage stood in for, and no broken link used.

    Stages that stay keep their exact span, since their memory is bound to it. Of a broken link
    either end may be replaced; the cheapest whole is taken, counting one step, the replay and the
    loading. Only if no such route exists are all stages chosen anew. None when nothing covers.
    """
    found: list[tuple[float, Route]] = []
    for gone in _replacements(facts, lost, broken):
        candidate = _with_replaced(swarm, spec, facts, cost, gone, lost, broken)
        if candidate is not None:
            found.append(candidate)
    if found:
        return min(found, key=lambda pair: (pair[0], str(pair[1])))[1]
    everything = frozenset(range(len(facts.route)))
    last_resort = _with_replaced(swarm, spec, facts, cost, everything, lost, broken)
    return last_resort[1] if last_resort is not None else None


def leaving(swarm: Swarm, model: ModelId, peer: PeerId, span: Span) -> Span | None:
    """The span that a peer wants to let go of and that covers `span`, or None."""
    record = swarm.peers.get(peer)
    held = record.holdings if record is not None else ()
    spans = (h.span for h in held if h.model == model and h.state == "draining")
    return next((own for own in spans if own.covers(span)), None)


def moved(
    swarm: Swarm,
    spec: ModelSpec,
    facts: Facts,
    cost: Cost,
    stages: frozenset[int],
    *,
    lost: frozenset[PeerId],
    broken: frozenset[Ends],
) -> Route | None:
    """The session's route with these stages stood in for by what is ready; None when none is."""
    found = _with_replaced(swarm, spec, facts, cost, stages, lost, broken, READY)
    return None if found is None else found[1]


def replays(lengths: Sequence[int], position: int) -> tuple[ReplaySpan, ...]:
    """What must be replayed so that every stage holds `position` tokens.

    `lengths` are the tokens each stage holds and may use. Neighbouring stages that lack tokens are
    filled together by the stage before them (the owner before the first), from the least they hold.
    """
    spans, stage = [], 0
    while stage < len(lengths):
        if lengths[stage] >= position:
            stage += 1
            continue
        last = stage
        while last + 1 < len(lengths) and lengths[last + 1] < position:
            last += 1
        first_missing = min(lengths[stage : last + 1])
        spans.append(ReplaySpan(stage - 1, last, first_missing, position))
        stage = last + 1
    return tuple(spans)


def chunks(first: int, last: int, size: int, source: int = 0) -> Iterator[tuple[int, int]]:
    """[first, last) in runs of at most `size`, but for a source, which is one run, the first."""
    if first < source:
        yield first, min(source, last)
    for start in range(max(first, source), last, size):
        yield start, min(start + size, last)


def _replacements(
    facts: Facts, lost: frozenset[PeerId], broken: frozenset[Ends]
) -> Iterable[frozenset[int]]:
    """Sets of stages to replace so that no lost peer and no broken link stays in the route."""
    stages = facts.route.stages
    gone = {number for number, stage in enumerate(stages) if stage.peer in lost}
    ends = (facts.owner, *(stage.peer for stage in stages), facts.owner)
    choices: list[tuple[int, ...]] = []
    for hop, pair in enumerate(pairwise(ends)):
        source, target = hop - 1, hop  # stage numbers; the owner is -1 and len(stages)
        if pair in broken and not gone & {source, target}:
            choices.append(tuple(n for n in (target, source) if 0 <= n < len(stages)))
    return tuple(
        dict.fromkeys(
            frozenset(gone.union(picked)) for picked in islice(product(*choices), MOST_CHOICES)
        )
    )


def _kernels_extra(swarm: Swarm, profile: Profile) -> Extra:
    """Forbids kernel sets the profile does not allow; prefers its own."""

    def extra_s(peer: PeerId, layer: int) -> float | None:
        del layer
        kernels = swarm.peers[peer].kernels
        if kernels == profile.kernels:
            return 0.0
        return OTHER_KERNELS_S if profile.allows(kernels) else None

    return extra_s


def _with_replaced(
    swarm: Swarm,
    spec: ModelSpec,
    facts: Facts,
    cost: Cost,
    gone: frozenset[int],
    lost: frozenset[PeerId],
    broken: frozenset[Ends],
    states: frozenset[HoldingState] = LOADABLE,
) -> tuple[float, Route] | None:
    """The best route that keeps every stage but those in `gone`, and its seconds.

    In their place only what is in one of `states` may stand.
    """
    kept = [stage for number, stage in enumerate(facts.route.stages) if number not in gone]
    keeper = {layer: s.peer for s in kept for layer in range(s.span.first, s.span.last)}
    kernels_s = _kernels_extra(swarm, facts.profile)
    replay = replace(cost, tokens=max(1, facts.position))

    def extra_s(peer: PeerId, layer: int) -> float | None:
        if layer in keeper:
            return 0.0 if keeper[layer] == peer else None
        if peer not in holders(swarm, facts.model, layer, states):
            return None
        other = kernels_s(peer, layer)
        if other is None:
            return None
        seconds = other + work_s(layer_work(spec.layers[layer], replay), swarm.peers[peer].device)
        if peer not in holders(swarm, facts.model, layer):
            seconds += load_s(spec, Span(layer, layer + 1), DISK_BYTES_PER_S, cost)
        return seconds

    full = memory_need(swarm, spec, facts.model, facts.context_limit, cost)
    found = route(
        swarm,
        spec,
        facts.model,
        facts.owner,
        cost,
        exclude_peers=lost,
        exclude_links=broken,
        extra_s=extra_s,
        need=lambda peer, layer: 0 if layer in keeper else full(peer, layer),
        states=states | {"draining"},  # stages that stay may be at a peer that lets go of them
    )
    if found is None:
        return None
    seconds = route_s(swarm, spec, facts.owner, found, cost, extra_s=extra_s)
    return seconds, _as_stages(swarm, facts.model, found, kept)


def _as_stages(swarm: Swarm, model: ModelId, found: Route, kept: Sequence[Stage]) -> Route:
    """`found` cut so that every stage is a whole stage that stays, or lies within one holding.

    Routing joins neighbouring layers at one peer; memory and engines are bound to their spans.
    """
    stays = set(kept)
    cuts = {end for stage in kept for end in (stage.span.first, stage.span.last)}
    stages: list[Stage] = []
    for stage in found.stages:
        inner = sorted(c for c in cuts if stage.span.first < c < stage.span.last)
        for first, last in pairwise((stage.span.first, *inner, stage.span.last)):
            piece = Stage(stage.peer, Span(first, last))
            if piece in stays:
                stages.append(piece)
            else:
                stages += _by_holdings(swarm, model, piece)
    return Route(tuple(stages))


def _by_holdings(swarm: Swarm, model: ModelId, piece: Stage) -> Iterator[Stage]:
    """A piece of a route cut into as few loaded spans of its peer as can be; the rest is loaded."""
    record = swarm.peers[piece.peer]
    loaded = [h.span for h in record.holdings if h.model == model and h.state == "ready"]
    at = piece.span.first
    while at < piece.span.last:
        ends = [span.last for span in loaded if at in span]
        starts = [span.first for span in loaded if span.first > at]
        last = min(max(ends) if ends else min(starts, default=piece.span.last), piece.span.last)
        yield Stage(piece.peer, Span(at, last))
        at = last
