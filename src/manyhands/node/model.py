"""A model as a node can hold it: its name, its spec, the numeric form, and how a span is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from manyhands.domain.ids import ModelId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Model:
    """`load` runs on the loading thread; raises CheckpointError, ResourceError or NotServed.

    `stored` are the spans whose weights are on this peer's disk: only those, and parts of them, can
    be loaded. `bytes_per_weight` and `bytes_per_kv` are what one number takes once loaded.
    """

    id: ModelId
    spec: ModelSpec
    profile: Profile
    load: Callable[[Span], Engine]
    stored: tuple[Span, ...] = ()
    bytes_per_weight: float = 4.0
    bytes_per_kv: float = 4.0
