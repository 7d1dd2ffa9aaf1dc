"""What cutting every matrix would cost: sums against what reading together saves."""

import pytest

from manyhands.domain.device import Link
from manyhands.plan.cost import Cost, memory_bytes, span_s
from manyhands.plan.tensor_split import SUM_S, summed_s, tensor_split, together
from small_swarms import device, model, peer_id, record, swarm

SPEC, TOKENS, OWNER = model(4), 8, peer_id(1)
COST = Cost(latency_s=0.0, rate_bytes_per_s=1e15)
NEEDED = memory_bytes(SPEC, SPEC.span, TOKENS, COST)


def split(*devices, cost=COST, **options):
    records = [record(n, of=one) for n, one in enumerate(devices, 1)]
    return tensor_split(swarm(*records, **options), SPEC, OWNER, cost, tokens=TOKENS)


def test_two_sums_a_block_and_one_for_the_head_each_over_a_link():
    assert summed_s(SPEC, 2, 1e-3) == pytest.approx(9 * (1e-3 + SUM_S))
    assert summed_s(SPEC, 4, 1e-3) == pytest.approx(2 * summed_s(SPEC, 2, 1e-3))
    assert summed_s(SPEC, 3, 1e-3) == summed_s(SPEC, 4, 1e-3)


def test_two_devices_read_in_half_the_time_and_pay_for_every_sum():
    found = split(device(), device())
    both = together([device(), device()])
    assert found.peers == (peer_id(1), peer_id(2))
    assert found.step_s == pytest.approx(span_s(SPEC, SPEC.span, both, COST) + 9 * SUM_S)
    slower = split(device(), device(), cost=Cost(latency_s=0.01, rate_bytes_per_s=1e15))
    assert slower.step_s == pytest.approx(found.step_s + 9 * 0.01)


def test_the_slowest_link_among_them_counts_and_a_broken_one_forbids():
    link = Link(peer_id(2), peer_id(1), 0.02, 1e15)
    assert split(device(), device(), links=(link,)).step_s > 9 * 0.02
    assert split(device(), device(), broken=((peer_id(1), peer_id(2)),)) is None


def test_parts_are_as_large_as_their_devices_are_quick_and_must_fit():
    half = int(NEEDED * 0.6 / 0.9)
    assert split(device(memory=half), device(memory=half)) is not None
    assert split(device(4e6, memory=half), device(1e6, memory=half)) is None
    assert split(device()) is None
    assert split(device(0.0), device(0.0)) is None
