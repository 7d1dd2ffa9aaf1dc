"""The spans this peer has loaded, and those it could load from its disk, or fetch to it.

Knows nothing of sessions. Spans are loaded beside the compute queue, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, short
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from manyhands.engine.compute import Compute
from manyhands.engine.engine import Engine
from manyhands.errors import NotServed, ResourceError
from manyhands.node.model import Model
from manyhands.plan.cost import Cost, weight_bytes


class Holdings:
    """Loaded engines by model and span, within the device's memory."""

    def __init__(
        self,
        device: Device,
        models: Mapping[ModelId, Model],
        loading: Compute,
        changed: Callable[[], None],
        rehearse: Callable[[Model, Span, Engine], Awaitable[None]] | None = None,
    ) -> None:
        self._device, self._loading, self._rehearse = device, loading, rehearse
        self._models = dict(models)
        self._changed = changed
        self._engines: dict[tuple[ModelId, Span], Engine] = {}
        self._draining: set[tuple[ModelId, Span]] = set()
        self._fetching: Holding | None = None
        self._one_at_a_time = asyncio.Lock()

    def model(self, model: ModelId) -> Model:
        """What we know of a model. Raises NotServed when it is not on our disk."""
        known = self._models.get(model)
        if known is None:
            raise NotServed(f"model {short(model)} is not on this peer's disk")
        return known

    def add(self, model: Model) -> None:
        """Know one more model, or one anew."""
        self._models[model.id] = model
        self._changed()

    def find(self, model: ModelId, span: Span) -> Engine | None:
        """The smallest loaded engine that covers a span, the first of equals.

        One that is to be let go of only where no other does.
        """
        held = self._covering(model, span)
        return None if held is None else self._engines[model, held]

    def _covering(self, model: ModelId, span: Span) -> Span | None:
        covering = [
            ((model, held) in self._draining, len(held), held)
            for (name, held) in self._engines
            if name == model and held.covers(span)
        ]
        return min(covering)[2] if covering else None

    def spans(self, model: ModelId) -> tuple[Span, ...]:
        """What is loaded of a model, also what is to be let go of."""
        return tuple(sorted(span for name, span in self._engines if name == model))

    def drain(self, model: ModelId, span: Span) -> Engine:
        """Tell the others not to count on a loaded span any more; its engine.

        Raises NotServed when it is not loaded.
        """
        engine = self._engines.get((model, span))
        if engine is None:
            raise NotServed(f"span {span} of model {short(model)} is not loaded on this peer")
        self._draining.add((model, span))
        self._changed()
        return engine

    def keep(self, model: ModelId, span: Span) -> None:
        """The others may count on it again."""
        self._draining.discard((model, span))
        self._changed()

    def drop(self, model: ModelId, span: Span) -> None:
        """Let go of a span: its memory is free once nobody computes with it any more."""
        self._draining.discard((model, span))
        self._engines.pop((model, span), None)
        self._changed()

    def is_held(self, engine: Engine) -> bool:
        """True for an engine that was not let go of."""
        return any(held is engine for held in self._engines.values())

    def is_draining(self, engine: Engine) -> bool:
        """True for an engine that is to be let go of."""
        return any(self._engines.get(key) is engine for key in self._draining)

    async def hold(self, model: ModelId, span: Span) -> Engine:
        """Load a span unless one that covers it is loaded; fetch it first where it is not stored.

        Raises NotServed (not our model), ResourceError (no room for its weights), CheckpointError,
        PeerLost when nobody gives what must be fetched.
        """
        async with self._one_at_a_time:
            held = self._covering(model, span)
            if held is not None:
                if (model, held) in self._draining:
                    self.keep(model, held)
                return self._engines[model, held]
            known = self.model(model)
            is_stored = any(stored.covers(span) for stored in known.stored)
            if not is_stored and known.fetch is None:
                raise NotServed(f"span {span} of model {short(model)} is not on this peer's disk")
            need = weight_bytes(known.spec, span, Cost(known.bytes_per_weight))
            if need > self.room_bytes():
                raise ResourceError(
                    f"span {span} of model {short(model)} needs {need} bytes, {self.room_bytes()} "
                    "are free; hold fewer layers or free some"
                )
            # told at once, so that two newcomers do not take the same span
            self._fetching = Holding(model, span, "fetching")
            self._changed()
            try:
                if not is_stored and known.fetch is not None:
                    await known.fetch(span)
                    self._models[model] = replace(known, stored=(*known.stored, span))
                engine = await self._loading.run(lambda: known.load(span), 0.0)
                if self._rehearse is not None:
                    await self._rehearse(known, span, engine)
                self._engines[model, span] = engine
            finally:
                self._fetching = None
                self._changed()
        return engine

    def room_bytes(self) -> int:
        """Bytes still free for weights."""
        return self._device.memory_bytes - sum(e.weight_bytes for e in self._engines.values())

    def holdings(self) -> tuple[Holding, ...]:
        """What our record says: loaded spans, one being loaded, whole models that could be."""
        fetching = (self._fetching,) if self._fetching is not None else ()
        loaded = (
            Holding(model, span, "draining" if (model, span) in self._draining else "ready")
            for model, span in sorted(self._engines)
        )
        stored = (
            Holding(name, span, "stored")
            for name, known in self._models.items()
            for span in known.stored
        )
        return (*loaded, *fetching, *stored)

    def draining(self) -> tuple[Holding, ...]:
        """What our record says while nothing is given: loaded spans, for nobody new."""
        return tuple(Holding(model, span, "draining") for model, span in sorted(self._engines))
