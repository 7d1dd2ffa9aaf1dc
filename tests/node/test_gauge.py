"""A device that does otherwise than measured is told as it is, once, and not for every swing."""

from dataclasses import replace

import pytest

from manyhands.domain.device import Device
from manyhands.domain.span import Span
from manyhands.node.gauge import LOOK_EVERY_S, STEPS, Gauge
from manyhands.node.model import Model
from manyhands.plan.cost import Cost, span_s
from manyhands.sim.hash_engine import hash_profile
from small_swarms import MODEL, model

SPEC = model(6)
DEVICE = Device("cpu", 10**9, 1e6, 1e7, 1e-5)
SERVED = Model(MODEL, SPEC, hash_profile(MODEL), lambda _: None)


class Bench:
    def __init__(self, device=DEVICE):
        self.now_s, self.told = 0.0, []
        self.gauge = Gauge(device, lambda _: SERVED, lambda: self.now_s, self.tell)

    def tell(self):
        self.told.append(self.gauge.device)

    def steps(self, slower, count=STEPS, span=SPEC.span, position=0, every_s=LOOK_EVERY_S):
        for _ in range(count):
            self.now_s += every_s
            seconds = slower * span_s(SPEC, span, DEVICE, Cost(4.0, 4.0, context=position))
            self.gauge.took(MODEL, span, position, seconds)


def test_a_device_half_as_fast_as_measured_is_told_once_and_predicts_itself():
    bench = Bench()
    bench.steps(2.0, 5 * STEPS, Span(1, 4))
    (told,) = bench.told
    cost = Cost(4.0, 4.0)
    assert span_s(SPEC, SPEC.span, told, cost) == pytest.approx(
        2 * span_s(SPEC, SPEC.span, DEVICE, cost)
    )
    assert told.memory_bytes == DEVICE.memory_bytes
    assert told.flops_per_s == DEVICE.flops_per_s  # of which single tokens tell nothing
    bench.steps(1.0)
    assert bench.told[-1] == DEVICE
    assert len(bench.told) == 2


def test_a_device_that_multiplies_quicker_than_was_guessed_predicts_itself():
    guessed = replace(DEVICE, flops_per_s=1e4)
    bench = Bench(guessed)
    cost = Cost(4.0, 4.0)
    assert span_s(SPEC, SPEC.span, guessed, cost) > 2 * span_s(SPEC, SPEC.span, DEVICE, cost)
    bench.steps(1.5)
    (told,) = bench.told
    assert told.flops_per_s > guessed.flops_per_s
    assert span_s(SPEC, SPEC.span, told, cost) == pytest.approx(
        1.5 * span_s(SPEC, SPEC.span, DEVICE, cost), rel=0.05
    )


def test_small_and_short_swings_are_not_told():
    bench = Bench()
    bench.steps(1.09, 5 * STEPS)
    for _ in range(10):
        bench.steps(1.0, STEPS - 3)
        bench.steps(20.0, 3)  # somebody else's moment
    assert not bench.told


def test_few_steps_of_many_are_looked_at():
    bench = Bench()
    bench.steps(3.0, 20, every_s=LOOK_EVERY_S / 10)
    assert not bench.told
    bench.steps(3.0, 200, every_s=LOOK_EVERY_S / 10)
    assert len(bench.told) == 1


def test_what_is_in_memory_counts():
    bench = Bench()
    bench.steps(1.0, 3 * STEPS, position=1024)
    assert not bench.told


def test_a_device_without_a_figure_is_never_told():
    bench = Bench(replace(DEVICE, read_bytes_per_s=0.0))
    bench.steps(1.0, 3 * STEPS)
    assert not bench.told


def test_a_rehearsal_at_load_is_told_at_once_and_steps_follow_from_it():
    bench = Bench()
    span = Span(1, 4)
    one = span_s(SPEC, span, DEVICE, Cost(4.0, 4.0))
    bench.gauge.rehearsed(MODEL, span, [1.05 * one] * 3)
    assert not bench.told
    bench.gauge.rehearsed(MODEL, span, [9 * one, 3 * one, 3.1 * one])
    assert len(bench.told) == 1
    bench.steps(3.1, 3 * STEPS, span)
    assert len(bench.told) == 1


def test_what_was_measured_later_is_told_and_followed_from():
    bench = Bench(replace(DEVICE, read_bytes_per_s=7.0, memory_bytes=5))
    bench.gauge.measured(DEVICE)
    assert bench.told == [replace(DEVICE, memory_bytes=5)]
    bench.steps(1.0, 3 * STEPS)
    assert len(bench.told) == 1
    bench.steps(2.0, 3 * STEPS)
    assert len(bench.told) == 2
