"""Who should hold which layers: contiguous spans over the devices that answer soonest together.

Minimises the predicted seconds of one step round the ring, so a device that would make the answer
slower is left out. Knows nothing of what is loaded already, of sessions, or of queues, which pass
while a placement stays. The search itself is in `plan/orders`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.ids import PeerId, short
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.domain.work import Route, Stage
from manyhands.errors import ResourceError
from manyhands.plan.cost import (
    MEMORY_SHARE,
    Cost,
    answer_bytes,
    hidden_bytes,
    layer_work,
    link_between,
    link_s,
    memory_bytes,
    prompt_bytes,
    span_s,
    work_s,
)
from manyhands.plan.cuts import Pipeline, Tables, cut
from manyhands.plan.orders import search

ANYWHERE: Mapping[PeerId, Span] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Option:
    """Another placement that was counted; `step_s` is None when there is none that fits."""

    name: str
    step_s: float | None


@dataclass(frozen=True, slots=True)
class Placement:
    """A way to place a model, its predicted seconds a step, and what it was chosen over.

    `stage_s` are each stage's own seconds, so that the slowest bounds the throughput. `left_out`
    are peers that are not needed or would make it slower.
    """

    route: Route
    step_s: float
    stage_s: tuple[float, ...]
    left_out: tuple[PeerId, ...]
    instead: tuple[Option, ...]

    @property
    def reason(self) -> str:
        """Lines for a person: the stages, the prediction, what else was counted."""
        many = "s" if len(self.route) > 1 else ""
        lines = [f"{len(self.route)} stage{many}, {self.step_s * 1e3:.1f} ms a step predicted"]
        for stage, seconds in zip(self.route.stages, self.stage_s, strict=True):
            lines.append(f"  {short(stage.peer)} {stage.span}: {seconds * 1e3:.1f} ms")
        for other in self.instead:
            told = "does not fit" if other.step_s is None else f"{other.step_s * 1e3:.1f} ms"
            lines.append(f"  instead, {other.name}: {told}")
        if self.left_out:
            lines.append(f"  left out: {', '.join(short(peer) for peer in self.left_out)}")
        return "\n".join(lines)


def place(
    swarm: Swarm,
    spec: ModelSpec,
    owner: PeerId,
    cost: Cost,
    *,
    tokens: int,
    peers: Iterable[PeerId] | None = None,
    within: Mapping[PeerId, Span] = ANYWHERE,
) -> Placement:
    """The placement over `peers` (all of the swarm by default) whose steps come round quickest.

    A stage of a peer in `within` stays within its span there. Every stage's weights and key/value
    memory for `tokens` tokens (of all sessions together) stay within MEMORY_SHARE of its device. Of
    equally quick ones the one with fewer devices is taken. Raises ResourceError when no placement
    fits.
    """
    names = computing(swarm, spec, cost, peers)
    if not names:
        raise ResourceError("no device that computes is there to place the model on; add a peer")
    tables = tabulate(swarm, spec, owner, cost, tokens, names, within)
    best, together = search(tables)
    if not best.cuts:
        raise ResourceError(_shortage(swarm, spec, cost, tokens, names))
    stages = tuple(
        Stage(names[place], Span(first, last))
        for place, (first, last) in zip(best.order, pairwise(best.cuts), strict=True)
    )
    return Placement(
        route=Route(stages),
        step_s=best.step_s,
        stage_s=tuple(
            float(tables.done_s[place, last] - tables.done_s[place, first])
            for place, (first, last) in zip(best.order, pairwise(best.cuts), strict=True)
        ),
        left_out=tuple(name for place, name in enumerate(names) if place not in best.order),
        instead=_instead(tables, names, best, together),
    )


def _instead(
    tables: Tables, names: tuple[PeerId, ...], best: Pipeline, together: Pipeline
) -> tuple[Option, ...]:
    """The best single device and all devices together, where `best` is not that itself."""

    def option(name: str, other: Pipeline) -> Option:
        return Option(name, other.step_s if isfinite(other.step_s) else None)

    options = []
    if len(best.order) > 1:
        alone = min((cut(tables, (place,)) for place in range(len(names))), key=Pipeline.key)
        options.append(option(f"{short(names[alone.order[0]])} alone", alone))
    if len(best.order) < len(names):
        options.append(option(f"all {len(names)} devices", together))
    return tuple(options)


def computing(
    swarm: Swarm, spec: ModelSpec, cost: Cost, peers: Iterable[PeerId] | None = None
) -> tuple[PeerId, ...]:
    """Of `peers` (all by default) those that come to an end with a model's step, by id."""
    return tuple(
        name
        for name in sorted(swarm.peers if peers is None else set(peers))
        if isfinite(span_s(spec, spec.span, swarm.peers[name].device, cost))
    )


def tabulate(
    swarm: Swarm,
    spec: ModelSpec,
    owner: PeerId,
    cost: Cost,
    tokens: int,
    names: tuple[PeerId, ...],
    within: Mapping[PeerId, Span] = ANYWHERE,
) -> Tables:
    """Models, memory and links as seconds; devices are places in `names`."""
    count = len(spec.layers)
    work = [layer_work(layer, cost) for layer in spec.layers]
    sizes = [memory_bytes(spec, Span(n, n + 1), tokens, cost) for n in range(count)]
    below = np.concatenate(([0], np.cumsum(np.array(sizes, dtype=np.int64))))
    whole = memory_bytes(spec, spec.span, tokens, cost)
    done_s, earliest = [], []
    for name in names:
        device = swarm.peers[name].device
        seconds = [work_s(one, device) for one in work]
        done_s.append(np.concatenate(([0.0], np.cumsum(seconds))))
        limit = int(MEMORY_SHARE * device.memory_bytes)
        first = np.searchsorted(below, below - limit)
        if whole <= limit:  # a tied head beside its embedding is held once
            first[count] = 0
        earliest.append(_bounded(first, within[name]) if name in within else first)

    def hop(source: PeerId, target: PeerId, size_bytes: int) -> float:
        if source != target and (source, target) in swarm.broken:
            return inf
        return link_s(link_between(swarm, source, target, cost), size_bytes)

    hidden = hidden_bytes(spec, cost)
    return Tables(
        done_s=np.stack(done_s),
        earliest=np.stack(earliest),
        enter_s=np.array([hop(owner, name, prompt_bytes(cost)) for name in names]),
        leave_s=np.array([hop(name, owner, answer_bytes()) for name in names]),
        hop_s=np.array([[hop(source, name, hidden) for name in names] for source in names]),
    )


def _bounded(first: NDArray[np.intp], span: Span) -> NDArray[np.intp]:
    """`earliest` of a device whose stage must lie within a span."""
    ends = np.arange(len(first))
    is_inside = (ends > span.first) & (ends <= span.last)
    return np.where(is_inside, np.maximum(first, span.first), ends)


def _shortage(
    swarm: Swarm, spec: ModelSpec, cost: Cost, tokens: int, names: tuple[PeerId, ...]
) -> str:
    wanted = memory_bytes(spec, spec.span, tokens, cost)
    given = sum(int(MEMORY_SHARE * swarm.peers[name].device.memory_bytes) for name in names)
    return (
        f"the model with memory for {tokens} tokens takes {wanted / 2**30:.2f} GiB in layers that "
        f"stay whole; {len(names)} devices have {given / 2**30:.2f} GiB for it, and links between "
        f"them may be broken. Add a device, use a smaller weight format, or ask for fewer tokens"
    )
