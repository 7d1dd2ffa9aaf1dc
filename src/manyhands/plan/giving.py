"""May this device give now, and if not, why: from its user's limits and what is seen of it.

Knows nothing of clocks, of how the machine is read, or of what giving is.
"""

from __future__ import annotations

from math import ceil

from manyhands.domain.giving import Limits, Pause, Surroundings
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.plan.routing import LOADABLE, holders

CHARGED_MORE = 0.05
"""A battery that was low must be charged by so much more before it counts: it would swing."""


def pause(limits: Limits, seen: Surroundings, before: Pause) -> Pause:
    """Why not to give now, "" when nothing speaks against it; `before` is what this last said."""
    if limits.hours is not None and seen.minute not in limits.hours:
        return "hours"
    if seen.is_on_battery:
        if limits.on_mains:
            return "mains"
        least = limits.least_charge + (CHARGED_MORE if before == "battery" else 0.0)
        if seen.charge is not None and seen.charge < least:
            return "battery"
    if limits.when == "idle":
        if seen.idle_s is None:
            return "unread"
        if seen.idle_s < limits.idle_after_s:
            return "user"
    return ""


def threads(limits: Limits, cores: int, asked: int | None) -> int | None:
    """How many threads may compute; None is as many as the engine likes."""
    if limits.cpu_share >= 1.0:
        return asked
    most = max(1, ceil(limits.cpu_share * cores))
    return most if asked is None else min(most, asked)


def duty(limits: Limits, cores: int, computing: int | None) -> float:
    """Which share of the time `computing` threads (None: one a core) may compute."""
    return min(1.0, limits.cpu_share * cores / (computing or cores))


def is_held_by_others(swarm: Swarm, me: PeerId, model: ModelId, span: Span) -> bool:
    """True when every layer of a span is held, or could be loaded, by another peer that gives."""
    return all(
        any(peer != me for peer in holders(swarm, model, layer, LOADABLE))
        for layer in range(span.first, span.last)
    )
