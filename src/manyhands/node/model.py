"""A model as a node can hold it: its name, its spec, the numeric form, and how a span is loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from manyhands.domain.ids import ModelId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.engine.engine import Engine
from manyhands.store.pieces import Shelf


@dataclass(frozen=True, slots=True)
class Model:
    """`load` runs on the loading thread; raises CheckpointError, ResourceError or NotServed.

    `stored` are the spans whose weights are on this peer's disk: only those, and parts of them, can
    be loaded; `fetch` gets those of another span there first, where that is known how: from peers
    that give away what is on their `shelf`. `bytes_per_weight` and `bytes_per_kv` are what one
    number takes once loaded.
    """

    id: ModelId
    spec: ModelSpec
    profile: Profile
    load: Callable[[Span], Engine]
    stored: tuple[Span, ...] = ()
    bytes_per_weight: float = 4.0
    bytes_per_kv: float = 4.0
    shelf: Shelf | None = None
    fetch: Callable[[Span], Awaitable[None]] | None = None
