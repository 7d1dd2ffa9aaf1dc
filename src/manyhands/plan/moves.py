"""Which layers move between peers that stay, in what order, and whether that is worth it.

The wanted placement (`plan/placement`) beside the best route that the holdings give now. The same
snapshot gives the same moves at every peer. Knows nothing of sessions, messages or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from math import inf

from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.swarm import HoldingState, PeerRecord, Swarm
from manyhands.domain.work import Route
from manyhands.errors import ResourceError
from manyhands.plan.cost import MEMORY_SHARE, Cost, load_s, memory_bytes, weight_bytes
from manyhands.plan.phases import Move, Phases, parts_of
from manyhands.plan.placement import place
from manyhands.plan.recovery import DISK_BYTES_PER_S
from manyhands.plan.routing import route, route_s

HORIZON_S = 600.0
"""A placement is taken to stand for so long, and for as long again as the one before it did:
what it saves in that time must be more than loading takes."""

ALIKE = 0.01
"""A placement that is slower by no more is as good, if less has to be loaded for it."""


@dataclass(frozen=True, slots=True)
class Handed:
    """Layers that another peer runs afterwards; `source` None: nobody ran them."""

    span: Span
    source: PeerId | None
    target: PeerId


@dataclass(frozen=True, slots=True)
class Moves:
    """What is to be done. The moves of a phase may be made at once; the next phase waits for them.

    Whoever holds what after any of them, each layer that was ready somewhere still is. A step takes
    `from_s` before (None where layers are lost) and `to_s` after.
    """

    phases: tuple[tuple[Move, ...], ...]
    handed: tuple[Handed, ...]
    from_s: float | None
    to_s: float

    def told(self, name: Callable[[PeerId], str]) -> str:
        """One line for a person."""
        if not self.handed:
            gone = [move for phase in self.phases for move in phase if move.change == "let_go"]
            parts = [f"layers {_words(m.span)} at {name(m.peer)}" for m in gone]
            return f"letting go of {', '.join(parts)}: others are quicker with them"
        parts = [
            f"{_words(one.span)} from {name(one.source)} to {name(one.target)}"
            if one.source is not None
            else f"{_words(one.span)}, which nobody holds, to {name(one.target)}"
            for one in self.handed
        ]
        before = "no answers" if self.from_s is None else f"{self.from_s * 1e3:.3g}"
        return f"moving layers {', '.join(parts)}: {before} -> {self.to_s * 1e3:.3g} ms a step"


@dataclass(frozen=True, slots=True)
class Wish:
    """The model to be placed, who asks most, and what is counted with; `tokens` as in `place`.

    `by_hand` are spans that a person has given to peers: those, whatever would be quicker.
    """

    model: ModelId
    spec: ModelSpec
    profile: Profile
    owner: PeerId
    cost: Cost
    tokens: int
    by_hand: Mapping[PeerId, Span] = field(default_factory=dict)


def decider(swarm: Swarm, model: ModelId, founder: PeerId) -> PeerId | None:
    """Who decides about a model: the founder; without it the lowest peer that lets layers move."""
    if founder in swarm.peers:
        return founder
    return min(
        (peer for peer, record in swarm.peers.items() if model in record.moves), default=None
    )


def is_settling(swarm: Swarm, model: ModelId) -> bool:
    """True while a peer loads layers that will be ready without us."""
    states = {
        h.state for record in swarm.peers.values() for h in record.holdings if h.model == model
    }
    return "fetching" in states


def moves(swarm: Swarm, wish: Wish, *, gain: float, since_s: float = inf) -> Moves | None:
    """What to do now; None for nothing.

    Layers move when a step then takes less by `gain` (a share) or more, and loading them pays, the
    placement having stood for `since_s`; or when some are lost. Peers that do not let the model's
    layers move (`PeerRecord.moves`), that pause, or are about to let go of some, keep what they
    hold. A peer that holds several spans lets go of those that the best route does not need and
    others hold.
    """
    town = _Town(swarm, wish)
    now = town.present()
    from_s = None if now is None else town.seconds(now)
    wanted = town.wanted()
    if wanted is not None and (wanted != now or town.is_to_be_obeyed()):
        to_s = town.seconds(wanted)
        saved = 1.0 if from_s is None or town.is_to_be_obeyed() else 1 - to_s / from_s
        phases = town.ordered(wanted) if saved >= gain else None
        if phases and (from_s is None or saved * (HORIZON_S + since_s) >= town.loading_s(phases)):
            return Moves(phases, town.handed(now, wanted), from_s, to_s)
    if now is None or from_s is None:
        return None
    phases = town.ordered(now)
    return Moves(phases, (), from_s, from_s) if phases else None


class _Town:
    """One snapshot as far as one model is concerned; changes nothing."""

    def __init__(self, swarm: Swarm, wish: Wish) -> None:
        self._wish = wish
        records = {
            peer: _freed(record, wish)
            for peer, record in sorted(swarm.peers.items())
            if wish.profile.allows(record.kernels)
        }
        self._swarm = replace(swarm, peers=records)
        self._movable = frozenset(
            peer
            for peer, record in records.items()
            if wish.model in record.moves
            and not record.paused
            and not _spans(record, wish, {"draining"})
        )
        self._ready = {peer: _spans(record, wish, {"ready"}) for peer, record in records.items()}
        self._limits = {
            peer: int(MEMORY_SHARE * record.device.memory_bytes) for peer, record in records.items()
        }

    def seconds(self, way: Route) -> float:
        """A step round a route, counted in one way for all of them."""
        return route_s(self._swarm, self._wish.spec, self._wish.owner, way, self._wish.cost)

    def present(self) -> Route | None:
        """The best route over what is ready."""
        wish = self._wish
        return route(self._swarm, wish.spec, wish.model, wish.owner, wish.cost)

    def wanted(self) -> Route | None:
        """The best placement; peers whose layers stay take part with those."""
        wish, swarm = self._wish, self._swarm
        fixed = {
            peer: max(held, key=lambda span: (len(span), -span.first))
            for peer, held in self._ready.items()
            if held and peer not in self._movable
        }
        fixed |= {p: span for p, span in wish.by_hand.items() if p in self._movable}
        peers = self._movable | fixed.keys()
        try:
            placed = place(
                swarm,
                wish.spec,
                wish.owner,
                wish.cost,
                tokens=wish.tokens,
                peers=peers,
                within=fixed,
            )
        except ResourceError:
            return None
        return self._nearest(placed.route, fixed)

    def _nearest(self, wanted: Route, fixed: Mapping[PeerId, Span]) -> Route:
        """Of placements that are as quick, nearly, the one that loads least.

        Searched by giving a stage to another peer, exchanging two stages' peers, and shifting cuts
        to where held spans end.
        """
        most_s = self.seconds(wanted) * (1 + ALIKE)
        best, size = wanted, self._to_load(wanted)
        while size:
            near = [
                (self._to_load(other), self.seconds(other), _places(other), other)
                for other in self._neighbours(best)
                if self._may_be(other, fixed)
            ]
            found = min((one for one in near if one[0] < size and one[1] <= most_s), default=None)
            if found is None:
                break
            size, _, _, best = found
        return best

    def _neighbours(self, way: Route) -> Iterable[Route]:
        stages = way.stages
        for number, stage in enumerate(stages):
            for peer in sorted(self._ready.keys() - set(way.peers())):
                yield Route((*stages[:number], replace(stage, peer=peer), *stages[number + 1 :]))
        for one, other in combinations(range(len(stages)), 2):
            changed = list(stages)
            changed[one] = replace(stages[one], peer=stages[other].peer)
            changed[other] = replace(stages[other], peer=stages[one].peer)
            yield Route(tuple(changed))
        ends = {end for spans in self._ready.values() for s in spans for end in (s.first, s.last)}
        for number, (left, right) in enumerate(pairwise(stages)):
            for end in sorted(ends):
                if left.span.first < end < right.span.last and end != left.span.last:
                    changed = list(stages)
                    changed[number] = replace(left, span=Span(left.span.first, end))
                    changed[number + 1] = replace(right, span=Span(end, right.span.last))
                    yield Route(tuple(changed))

    def _may_be(self, way: Route, fixed: Mapping[PeerId, Span]) -> bool:
        return all(
            fixed[stage.peer].covers(stage.span)
            if stage.peer in fixed
            else stage.peer in self._movable and self._size(stage.span) <= self._limits[stage.peer]
            for stage in way.stages
        )

    def _to_load(self, way: Route) -> int:
        """Bytes of weights that are not where they are wanted."""
        wish = self._wish
        return sum(
            weight_bytes(wish.spec, stage.span, wish.cost)
            for stage in way.stages
            if not parts_of(stage.span, self._ready[stage.peer])
        )

    def is_to_be_obeyed(self) -> bool:
        """True while a span given by hand is not where it was given."""
        return any(
            peer in self._movable and not parts_of(span, self._ready[peer])
            for peer, span in self._wish.by_hand.items()
        )

    def ordered(self, target: Route) -> tuple[tuple[Move, ...], ...] | None:
        """The phases that lead to holdings over which `target` can go; None where none do."""
        wanted: dict[PeerId, list[Span]] = {}
        for stage in target.stages:
            wanted.setdefault(stage.peer, []).append(stage.span)
        kept = {peer: self._kept(peer, wanted.get(peer, ())) for peer in self._movable}
        return Phases(self._ready, kept, self._limits, self._size).ordered()

    def handed(self, now: Route | None, target: Route) -> tuple[Handed, ...]:
        """Runs of layers that another peer than now runs in `target`."""
        runs: list[Handed] = []
        before = {} if now is None else _by_layer(now)
        for layer, peer in sorted(_by_layer(target).items()):
            source = before.get(layer) if now is not None else self._holder(layer)
            if source == peer or (now is None and self._holds(peer, layer)):
                continue
            last = runs[-1] if runs else None
            if last is not None and (last.span.last, last.source, last.target) == (
                layer,
                source,
                peer,
            ):
                runs[-1] = replace(last, span=Span(last.span.first, layer + 1))
            else:
                runs.append(Handed(Span(layer, layer + 1), source, peer))
        return tuple(runs)

    def loading_s(self, phases: Iterable[Iterable[Move]]) -> float:
        """Seconds of the loads; those of a phase at different peers go on at once."""
        return sum(
            max(
                (
                    load_s(self._wish.spec, move.span, DISK_BYTES_PER_S, self._wish.cost)
                    for move in phase
                    if move.change == "load"
                ),
                default=0.0,
            )
            for phase in phases
        )

    def _kept(self, peer: PeerId, wanted: Sequence[Span]) -> frozenset[Span]:
        """What a peer ends with: as few of its spans as cover what is wanted, or that itself; the
        longest one where nothing is wanted of it.
        """
        held = self._ready[peer]
        by_hand = self._wish.by_hand.get(peer)
        if by_hand is not None:
            return frozenset(parts_of(by_hand, held) or (by_hand,))
        if not wanted:
            return frozenset(sorted(held, key=lambda span: (-len(span), span.first))[:1])
        return frozenset(part for span in wanted for part in parts_of(span, held) or (span,))

    def _size(self, span: Span) -> int:
        """Bytes of weights and of planned key/value memory."""
        wish = self._wish
        return memory_bytes(wish.spec, span, wish.tokens, wish.cost)

    def _holds(self, peer: PeerId, layer: int) -> bool:
        return any(layer in span for span in self._ready[peer])

    def _holder(self, layer: int) -> PeerId | None:
        return next((peer for peer in self._ready if self._holds(peer, layer)), None)


def _freed(record: PeerRecord, wish: Wish) -> PeerRecord:
    """A record without queues, whose memory is what other models leave."""
    own = _spans(record, wish, {"ready"})
    mine = sum(weight_bytes(wish.spec, span, wish.cost) for span in own)
    device = record.device
    others = max(0, device.memory_bytes - record.room_bytes - mine)
    left = max(0, device.memory_bytes - round(others / MEMORY_SHARE))
    return replace(record, queue_s=0.0, device=replace(device, memory_bytes=left))


def _spans(record: PeerRecord, wish: Wish, states: set[HoldingState]) -> tuple[Span, ...]:
    layers = wish.spec.span
    return tuple(
        sorted(
            {
                held.span
                for held in record.holdings
                if held.model == wish.model and held.state in states and layers.covers(held.span)
            }
        )
    )


def _by_layer(way: Route) -> dict[int, PeerId]:
    return {
        layer: stage.peer
        for stage in way.stages
        for layer in range(stage.span.first, stage.span.last)
    }


def _words(span: Span) -> str:
    return f"{span.first}:{span.last}"


def _places(way: Route) -> tuple[tuple[PeerId, int, int], ...]:
    """A way as what can be put in order, so that all who compute choose the same of equals."""
    return tuple((stage.peer, stage.span.first, stage.span.last) for stage in way.stages)
