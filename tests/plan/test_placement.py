"""Placement: the best spans, by comparison with every way to place."""

from dataclasses import replace
from itertools import combinations, pairwise, permutations
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.domain.device import Link
from manyhands.domain.span import Span, is_cover
from manyhands.domain.work import Route, Stage
from manyhands.errors import ResourceError
from manyhands.plan.cost import MEMORY_SHARE, Cost, fits, kv_bytes, span_s, weight_bytes
from manyhands.plan.placement import place
from manyhands.plan.routing import route_s
from small_swarms import device, devices, model, peer_id, record, seconds, swarm

OWNER = peer_id(0)
COST = Cost(tokens=1, context=8)
TOKENS = 8


@st.composite
def fleets(draw, low=1, high=4):
    """Devices of odd speed and memory (a part of the tiny model, or all), odd and broken links."""
    count = draw(st.integers(low, high))
    memory = st.sampled_from([3000, 4500, 6000, 12000])
    records = [record(n, of=draw(devices(draw(memory)))) for n in range(1, count + 1)]
    names = [peer_id(n) for n in range(count + 1)]
    pairs = st.sampled_from([(a, b) for a in names for b in names if a != b])
    links = [Link(a, b, draw(seconds), 1e6) for a, b in draw(st.lists(pairs, max_size=8))]
    return swarm(*records, links=tuple(links), broken=tuple(draw(st.lists(pairs, max_size=2))))


def every_placement(found, spec):
    layers = len(spec.layers)
    for size in range(1, len(found.peers) + 1):
        for order in permutations(sorted(found.peers), size):
            ends = (OWNER, *order, OWNER)
            if any(pair in found.broken for pair in pairwise(ends)):
                continue
            for inner in combinations(range(1, layers), size - 1):
                spans = [Span(a, b) for a, b in pairwise((0, *inner, layers))]
                if all(
                    fits(spec, span, found.peers[peer].device, TOKENS, COST)
                    for peer, span in zip(order, spans, strict=True)
                ):
                    yield Route(tuple(Stage(p, s) for p, s in zip(order, spans, strict=True)))


@settings(max_examples=60)
@given(fleets(), st.booleans())
def test_the_placement_is_the_quickest_of_all_placements(found, tied):
    spec = model(3, tied=tied)
    every = [(route_s(found, spec, OWNER, way, COST), way) for way in every_placement(found, spec)]
    if not every:
        with pytest.raises(ResourceError):
            place(found, spec, OWNER, COST, tokens=TOKENS)
        return
    got = place(found, spec, OWNER, COST, tokens=TOKENS)
    assert got.route in [way for _, way in every]
    best = min(cost for cost, _ in every)
    assert isclose(got.step_s, best, rel_tol=1e-9)
    assert isclose(route_s(found, spec, OWNER, got.route, COST), best, rel_tol=1e-9)
    alone = min((cost for cost, way in every if len(way) == 1), default=None)
    assert alone is None or got.step_s <= alone * (1 + 1e-9)
    for other in got.instead:
        whole = min((c for c, way in every if len(way) == len(found.peers)), default=None)
        told = alone if "alone" in other.name else whole
        assert (other.step_s is None) == (told is None)
        assert told is None or isclose(other.step_s, told, rel_tol=1e-9)


@settings(max_examples=20)
@given(fleets())
def test_the_same_swarm_told_in_another_order_is_placed_the_same(found):
    spec = model(3)
    turned = replace(found, peers=dict(reversed(found.peers.items())))
    try:
        first = place(found, spec, OWNER, COST, tokens=TOKENS)
    except ResourceError:
        return
    assert place(turned, spec, OWNER, COST, tokens=TOKENS) == first


def test_many_devices_are_placed_within_their_memory():
    spec = model(30)
    found = swarm(*(record(n, of=device(1e5 * (1 + n % 7), memory=9000)) for n in range(1, 25)))
    got = place(found, spec, OWNER, COST, tokens=TOKENS)
    assert is_cover([stage.span for stage in got.route.stages], len(spec.layers))
    for stage in got.route.stages:
        assert fits(spec, stage.span, found.peers[stage.peer].device, TOKENS, COST)
    assert set(got.left_out) | set(got.route.peers()) == set(found.peers)
    assert got.left_out


def test_a_slow_device_is_left_out_and_the_reason_says_what_it_would_have_cost():
    spec = model(4)
    found = swarm(record(1, of=device(1e6)), record(2, of=device(1e3)))
    got = place(found, spec, OWNER, COST, tokens=TOKENS)
    assert got.route == Route((Stage(peer_id(1), spec.span),))
    assert got.left_out == (peer_id(2),)
    assert got.reason.startswith("1 stage, ")
    assert "instead, all 2 devices: " in got.reason
    assert "left out: 00020002" in got.reason


def test_a_model_too_big_for_one_device_is_cut_and_the_reason_says_so():
    spec = model(4)
    half = weight_bytes(spec, spec.span, COST) * 0.7 / MEMORY_SHARE
    found = swarm(*(record(n, of=device(memory=int(half))) for n in (1, 2)))
    got = place(found, spec, OWNER, COST, tokens=0)
    assert len(got.route) == 2
    assert "instead, 00010001 alone: does not fit" in got.reason
    assert got.stage_s == pytest.approx(
        [span_s(spec, stage.span, device(), COST) for stage in got.route.stages]
    )


def test_memory_for_the_session_counts():
    spec = model(4)
    exactly = weight_bytes(spec, spec.span, COST) + kv_bytes(spec, spec.span, 100, COST)
    found = swarm(record(1, of=device(memory=int(exactly / MEMORY_SHARE) + 2)))
    assert len(place(found, spec, OWNER, COST, tokens=100).route) == 1
    with pytest.raises(ResourceError, match="memory for 110 tokens"):
        place(found, spec, OWNER, COST, tokens=110)


def test_a_head_tied_to_its_embedding_takes_memory_once_where_both_are():
    tied = model(2, tied=True)
    size = weight_bytes(tied, tied.span, COST)
    found = swarm(record(1, of=device(memory=int(size / MEMORY_SHARE) + 2)))
    assert len(place(found, tied, OWNER, COST, tokens=0).route) == 1
    with pytest.raises(ResourceError):
        place(found, model(2), OWNER, COST, tokens=0)


def test_only_the_peers_named_are_used():
    spec = model(2)
    found = swarm(record(1), record(2))
    got = place(found, spec, OWNER, COST, tokens=TOKENS, peers=[peer_id(2)])
    assert got.route.peers() == (peer_id(2),)
    assert got.instead == ()


def test_no_device_or_none_that_computes_is_said_plainly():
    with pytest.raises(ResourceError, match="add a peer"):
        place(swarm(), model(2), OWNER, COST, tokens=TOKENS)
    with pytest.raises(ResourceError, match="add a peer"):
        place(swarm(record(1, of=device(0.0))), model(2), OWNER, COST, tokens=TOKENS)


def test_links_nothing_comes_through_leave_no_placement():
    found = swarm(record(1), broken=((OWNER, peer_id(1)),))
    with pytest.raises(ResourceError, match="broken"):
        place(found, model(2), OWNER, COST, tokens=TOKENS)
