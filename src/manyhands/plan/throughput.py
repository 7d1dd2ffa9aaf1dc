"""The most tokens a second for many sessions: one device, whole copies, one pipeline, or several.

Routes share no device, so each can be kept busy by sessions of its own; a route gives a token each
time its slowest stage or link is done. Steps of several sessions that are computed together come on
top, alike for every way. Knows nothing of what one session gets, or of what is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.domain.work import Route, Stage
from manyhands.errors import ResourceError
from manyhands.plan.cost import Cost
from manyhands.plan.placement import ANYWHERE, computing, tabulate
from manyhands.plan.streams import Stream, best_streams


@dataclass(frozen=True, slots=True)
class Total:
    """Another way to serve many, and what it would give; `tok_s` is None where it does not fit."""

    name: str
    tok_s: float | None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Disjoint routes for many sessions, the tokens a second of each, and what else was counted."""

    routes: tuple[Route, ...]
    each_tok_s: tuple[float, ...]
    instead: tuple[Total, ...]

    @property
    def total_tok_s(self) -> float:
        """All of them together."""
        return sum(self.each_tok_s)

    @property
    def name(self) -> str:
        """Which way it is."""
        return _called([len(route) for route in self.routes])


def throughput(
    swarm: Swarm,
    spec: ModelSpec,
    owner: PeerId,
    cost: Cost,
    *,
    tokens: int,
    within: Mapping[PeerId, Span] = ANYWHERE,
) -> Throughput:
    """The routes that give the most together; exact up to `orders.EXACT_DEVICES`.

    A peer in `within` computes nothing outside its span there. Memory for `tokens` tokens is kept
    along each route. Raises ResourceError where none fits.
    """
    names = computing(swarm, spec, cost)
    if not names:
        raise ResourceError("no device that computes is there for many sessions; add a peer")
    # many sessions wait for the rate of a link, not for its latency: others' rows are under way
    links = {ends: replace(link, latency_s=0.0) for ends, link in swarm.links.items()}
    busy = replace(swarm, links=links)
    tables = tabulate(busy, spec, owner, replace(cost, latency_s=0.0), tokens, names, within)
    streams, pipeline = best_streams(tables)
    if pipeline is None:
        raise ResourceError("no devices that reach each other hold the model; add a device")
    ends = np.maximum(tables.enter_s, tables.leave_s)
    alone_s = np.where(tables.earliest[:, -1] == 0, np.maximum(tables.done_s[:, -1], ends), np.inf)
    copies = [float(1 / seconds) for seconds in alone_s if np.isfinite(seconds)]
    ways = {
        "one device": max(copies, default=None),
        f"{len(copies)} whole copies": sum(copies) if len(copies) > 1 else None,
        _called([len(pipeline.order)]): 1 / pipeline.token_s,
    }
    chosen = _called([len(stream.order) for stream in streams])
    return Throughput(
        routes=tuple(_route(stream, names) for stream in streams),
        each_tok_s=tuple(1 / stream.token_s for stream in streams),
        instead=tuple(Total(name, tok_s) for name, tok_s in ways.items() if name != chosen),
    )


def _called(stages: list[int]) -> str:
    """Words for routes of so many stages each."""
    copies = sum(size == 1 for size in stages)
    pipelines = len(stages) - copies
    if not pipelines:
        return "one device" if copies == 1 else f"{copies} whole copies"
    if not copies:
        return f"one pipeline of {stages[0]}" if pipelines == 1 else f"{pipelines} pipelines"
    plural = "s" if pipelines > 1 else ""
    return f"{copies} whole and {pipelines} pipeline{plural}"


def _route(stream: Stream, names: tuple[PeerId, ...]) -> Route:
    return Route(
        tuple(
            Stage(names[place], Span(first, last))
            for place, (first, last) in zip(stream.order, pairwise(stream.cuts), strict=True)
        )
    )
