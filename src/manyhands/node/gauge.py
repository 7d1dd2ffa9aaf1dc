"""The gauge: what this device really does, from the steps it computes, beside what was measured.

A measurement of one second at the beginning may be wrong, or of another hour: how much longer steps
of one token take than its figures say is followed, and told once it has drifted. What they say is
of reading and of a layer's fixed time. How fast many rows are multiplied they do not show, only
that it is no slower than that. Knows nothing of sessions or links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isfinite
from statistics import median

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId
from manyhands.domain.span import Span
from manyhands.node.model import Model
from manyhands.node.peers import Clock
from manyhands.plan.cost import Cost, span_s

DRIFT = 0.1
"""A change by no more is not told: plans would swing to and fro."""

LOOK_EVERY_S = 0.25
"""Steps in between are not looked at: counting one takes as long as a block or two."""

STEPS = 9
"""The median of so many counts, and so many must have been seen since it was last told."""

CONTEXT_GRAIN = 256
"""Tokens in memory are counted to this many."""


class Gauge:
    """`device` is what our record says; `changed` is called when it does.

    `share` is how much of the time this device may compute: it is told as so much slower.
    """

    def __init__(
        self,
        device: Device,
        model: Callable[[ModelId], Model],
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self.device = device
        self._measured, self._model = device, model
        self._clock, self._changed = clock, changed
        self._looked_s = -LOOK_EVERY_S
        self.share = 1.0
        self._slower: list[float] = []
        self._told = 1.0
        self._predicted: dict[tuple[ModelId, Span, int], tuple[float, float]] = {}

    def measured(self, device: Device) -> None:
        """Other figures to begin with; memory stays what it was."""
        self.device = self._measured = replace(device, memory_bytes=self.device.memory_bytes)
        self._slower, self._told = [], 1.0
        self._predicted.clear()
        self._changed()

    def took(self, model: ModelId, span: Span, position: int, seconds: float) -> None:
        """One token went through a span alone, with `position` tokens in memory before it."""
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        read_s, multiply_s = self._seconds(model, span, position // CONTEXT_GRAIN * CONTEXT_GRAIN)
        if not isfinite(read_s) or read_s <= 0 or seconds <= 0:
            return
        self._slower = [*self._slower[1 - STEPS :], seconds / read_s]
        if len(self._slower) == STEPS:
            self._follow(median(self._slower), multiply_s / read_s)

    def rehearsed(self, model: ModelId, span: Span, seconds: Sequence[float]) -> None:
        """Steps of one token at the beginning of a text, one after the other, took so long."""
        read_s, multiply_s = self._seconds(model, span, 0)
        if seconds and isfinite(read_s) and read_s > 0:
            self._slower = []
            self._follow(max(median(seconds), 1e-9) / read_s, multiply_s / read_s)

    def _follow(self, taken: float, multiplying: float) -> None:
        """Steps took `taken` times what reading should, and multiplying `multiplying` times."""
        slower = taken / self.share
        if abs(slower - self._told) <= DRIFT * self._told:
            return
        self._told, self._slower = slower, []
        self.device = replace(
            self._measured,
            read_bytes_per_s=self._measured.read_bytes_per_s / slower,
            overhead_s=self._measured.overhead_s * slower,
            flops_per_s=self._measured.flops_per_s * max(1.0, multiplying / slower),
        )
        self._changed()

    def _seconds(self, model: ModelId, span: Span, context: int) -> tuple[float, float]:
        """What the measured figures say of a step of one token: its reading, its multiplying."""
        key = model, span, context
        if key not in self._predicted:
            known = self._model(model)
            cost = Cost(known.bytes_per_weight, known.bytes_per_kv, context=context)
            if len(self._predicted) > 256:  # many models, or long texts
                self._predicted.clear()
            multiplying = replace(self._measured, read_bytes_per_s=inf, overhead_s=0.0)
            self._predicted[key] = (
                span_s(known.spec, span, replace(self._measured, flops_per_s=inf), cost),
                span_s(known.spec, span, multiplying, cost),
            )
        return self._predicted[key]
