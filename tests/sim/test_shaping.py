"""The shaper: whatever is sent arrives, in order, not before the delay and not above the rate."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.sim.shaping import SEGMENT_BYTES, Flow, Shape, Wire

shapes = st.builds(
    Shape,
    latency_s=st.floats(0, 0.3),
    rate_bytes_per_s=st.floats(1e4, 1e9) | st.just(float("inf")),
    loss=st.sampled_from([0.0, 0.01, 0.5]),
    jitter_s=st.sampled_from([0.0, 0.02]),
    queue_bytes=st.integers(1, 1 << 20),
)
sends = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1 << 16), st.floats(0, 0.1)), min_size=1
)
NEAR = 1e-9


def carry(shape, sent, seed=0):
    """Send (flow, bytes, pause before it) when there is room: (flow, bytes, sent at, arrived)."""
    wire, chance = Wire(shape), random.Random(seed)
    flows = [Flow(wire, chance), Flow(wire, chance)]
    now_s, told = 0.0, []
    for flow, size_bytes, pause_s in sent:
        now_s += pause_s
        now_s += flows[flow].wait_s(now_s)
        told.append((flow, size_bytes, now_s, flows[flow].arrival_s(size_bytes, now_s)))
    return told


@given(shapes, sends)
def test_nothing_arrives_before_its_delay_or_before_what_was_sent_first(shape, sent):
    last_s = [0.0, 0.0]
    for flow, size_bytes, at_s, arrival_s in carry(shape, sent):
        least_s = shape.latency_s + size_bytes / shape.rate_bytes_per_s
        assert arrival_s >= at_s + least_s - NEAR
        assert arrival_s >= last_s[flow]
        last_s[flow] = arrival_s


@given(shapes, sends)
def test_two_flows_together_are_never_above_the_rate(shape, sent):
    told = carry(Shape(shape.latency_s, shape.rate_bytes_per_s), sent)
    for first in range(len(told)):
        size_bytes = 0
        for _, more, _, arrival_s in told[first:]:
            size_bytes += more
            span_s = arrival_s - told[first][2] - shape.latency_s
            assert size_bytes <= shape.rate_bytes_per_s * (span_s + NEAR) + NEAR


@given(shapes, sends)
def test_the_queue_is_bounded(shape, sent):
    plain = Shape(shape.latency_s, shape.rate_bytes_per_s, queue_bytes=shape.queue_bytes)
    for _, size_bytes, at_s, arrival_s in carry(plain, sent):
        most_s = (shape.queue_bytes + size_bytes) / shape.rate_bytes_per_s
        assert arrival_s - at_s <= shape.latency_s + most_s + NEAR


def test_a_loss_holds_up_its_own_flow_until_it_is_repaired_and_no_other():
    shape = Shape(0.01, loss=1.0)
    wire = Wire(shape)
    flow, other = Flow(wire, random.Random(0)), Flow(wire, random.Random(0))
    assert flow.arrival_s(100, 5.0) == pytest.approx(5.0 + 0.01 + shape.resend_after_s)
    assert flow.wait_s(5.0) == pytest.approx(0.01 + shape.resend_after_s)
    wire.reshape(Shape(0.01), 5.0)
    assert flow.arrival_s(100, 5.1) == pytest.approx(5.0 + 0.01 + shape.resend_after_s)
    assert other.wait_s(5.1) == 0
    assert other.arrival_s(100, 5.1) == pytest.approx(5.11)


def test_as_many_are_lost_as_was_asked():
    shape, count = Shape(loss=0.02), 4000
    late = [
        arrival_s - at_s > shape.resend_after_s - NEAR
        for _, _, at_s, arrival_s in carry(shape, [(0, SEGMENT_BYTES, 0.0)] * count)
    ]
    assert sum(late) == pytest.approx(0.02 * count, rel=0.3)


def test_jitter_is_within_its_bound_and_comes_from_the_seed():
    shape = Shape(0.01, jitter_s=0.004)
    one, same, other = (carry(shape, [(0, 10, 0.1)] * 200, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert {0.01 <= arrival_s - at_s <= 0.014 for _, _, at_s, arrival_s in one} == {True}


def test_a_wire_made_quicker_forgets_how_slow_it_was():
    wire = Wire(Shape(rate_bytes_per_s=1e3))
    flow = Flow(wire, random.Random(0))
    assert flow.arrival_s(100_000, 0.0) == pytest.approx(100.0)
    wire.reshape(Shape(rate_bytes_per_s=1e6), 1.0)
    assert wire.full_s(1.0) == pytest.approx(0.0)
    assert wire.left_s(1000, 1.0) == pytest.approx(1.0 + (256 << 10) / 1e6 + 0.001)
