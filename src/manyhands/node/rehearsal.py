"""Steps that nobody asked for, through a span just loaded: the first somebody's waits for nothing,
and what the device does with these very layers is known before anybody plans with it.

Fetching compiled kernels from the disk takes 0.3 s; a stand-in's first answer had it. Knows nothing
of who is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from manyhands.domain.ids import ModelId, SessionId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.engine.compute import Compute
from manyhands.engine.engine import Chunk, Engine
from manyhands.errors import ManyhandsError
from manyhands.node.model import Model
from manyhands.node.peers import Clock

log = logging.getLogger(__name__)

STEPS = 5
"""Of one token each, that are counted; one more comes first."""

MOST_S = 1.0
"""No further step begins later than this: a large span needs no more to be judged."""

_NOBODY = SessionId("0" * 32)

Told = Callable[[ModelId, Span, Sequence[float]], None]
"""Hears of a model, a span, and the seconds of steps of one token at the beginning of a text."""


class Rehearsal:
    """Called with what was loaded, before anybody may use it."""

    def __init__(self, compute: Compute, clock: Clock, told: Told) -> None:
        self._compute, self._clock, self._told = compute, clock, told

    async def __call__(self, model: Model, span: Span, engine: Engine) -> None:
        """Take some tokens through; whatever keeps it from that is found out by who asks."""
        if not can_be_rehearsed(model.spec):
            return
        row = np.zeros((1, model.spec.width), np.float32) if span.first else None
        began_s, seconds = self._clock(), list[float]()
        try:
            await self._compute.run(lambda: engine.open(_NOBODY, STEPS + 1), 0.0)
            for position in range(STEPS + 1):
                chunk = Chunk(_NOBODY, position, (0,), row, (0,))
                from_s = self._clock()
                if from_s - began_s > MOST_S and seconds:
                    break
                await self._compute.run(lambda: engine.step([chunk]), engine.cost_s([chunk]))  # noqa: B023
                if position:
                    seconds.append(self._clock() - from_s)
            self._told(model.id, span, seconds)
        except ManyhandsError as error:  # no memory for so few tokens, say
            log.info("span %s was not rehearsed: %s", span, error)
        finally:
            await self._compute.run(lambda: engine.close(_NOBODY), 0.0)


def can_be_rehearsed(spec: ModelSpec) -> bool:
    """True where one token by itself is a step: of a text that goes on, in a memory."""
    return spec.keeps_memory and not spec.source and spec.answers == "lm"
