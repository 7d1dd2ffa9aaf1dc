"""Which layers a newcomer takes: a span of the model that fits, and what is missing first."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from manyhands.plan.cost import Cost, fits, memory_bytes, weight_bytes
from manyhands.plan.share import gaps, held_layers, most_from, share, stage_of
from small_swarms import MODEL, OTHER_MODEL, device, model, peer_id, record, swarm

COST = Cost()
TOKENS = 16
MODELS = st.builds(
    model, st.integers(1, 6), vocabulary=st.sampled_from([16, 512]), tied=st.booleans()
)
MEMORIES = st.integers(0, 40_000)


@st.composite
def cases(draw):
    """Holders of each layer, a model and a device."""
    spec = draw(MODELS)
    layers = len(spec.layers)
    counts = draw(st.lists(st.integers(0, 3), min_size=layers, max_size=layers))
    return tuple(counts), spec, device(memory=draw(MEMORIES))


@given(cases())
def test_a_share_fits_and_there_is_one_whenever_a_layer_fits(case):
    counts, spec, here = case
    got = share(counts, spec, here, TOKENS, COST)
    singles = [Span(layer, layer + 1) for layer in range(len(counts))]
    assert (got is None) == (not any(fits(spec, one, here, TOKENS, COST) for one in singles))
    if got is not None:
        assert 0 <= got.first < got.last <= len(counts)
        assert fits(spec, got, here, TOKENS, COST)


@given(cases())
def test_what_nobody_holds_comes_first(case):
    counts, spec, here = case
    got = share(counts, spec, here, TOKENS, COST)
    missing = [
        layer
        for gap in gaps(counts)
        for layer in range(gap.first, gap.last)
        if fits(spec, Span(layer, layer + 1), here, TOKENS, COST)
    ]
    if missing:
        assert got is not None
        assert got.first == missing[0]
        assert not any(counts[got.first : got.last])  # no part of it is held already
        is_at_an_end = got.last == len(counts) or counts[got.last] > 0
        assert is_at_an_end or not fits(spec, Span(got.first, got.last + 1), here, TOKENS, COST)


@given(cases())
def test_where_nothing_is_missing_the_longest_stretch_with_the_fewest_holders_is_taken(case):
    counts, spec, here = case
    counts = tuple(count + 1 for count in counts)
    got = share(counts, spec, here, TOKENS, COST)
    if fits(spec, spec.span, here, TOKENS, COST):
        assert got == spec.span
    if got is not None:
        others = [most_from(spec, first, here, TOKENS, COST) for first in range(len(counts))]
        assert len(got) == max(len(other) for other in others if other is not None)
        assert all(
            sum(counts[got.first : got.last]) <= sum(counts[other.first : other.last])
            for other in others
            if other is not None and len(other) == len(got)
        )


@given(MODELS, MEMORIES, st.data())
def test_the_most_from_a_layer_is_the_most(spec, memory, data):
    here, layers = device(memory=memory), len(spec.layers)
    first = data.draw(st.integers(0, layers - 1))
    fitting = [
        last
        for last in range(first + 1, layers + 1)
        if fits(spec, Span(first, last), here, TOKENS, COST)
    ]
    got = most_from(spec, first, here, TOKENS, COST)
    assert (got.last if got else None) == max(fitting, default=None)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple))
def test_gaps_are_exactly_the_layers_that_nobody_holds(counts):
    found = gaps(counts)
    inside = [layer for gap in found for layer in range(gap.first, gap.last)]
    assert inside == [layer for layer, count in enumerate(counts) if not count]
    assert all(left.last < right.first for left, right in pairwise(found))


def test_a_device_too_small_for_the_embedding_takes_the_blocks_behind_it():
    spec = model(4, vocabulary=4096)
    here = device(memory=20_000)
    assert not fits(spec, Span(0, 1), here, TOKENS, COST)
    got = share((0,) * len(spec.layers), spec, here, TOKENS, COST)
    assert got is not None
    assert got.first == 1


def test_newcomers_one_after_the_other_cover_the_model():
    spec = model(6)
    here = device(memory=round(memory_bytes(spec, Span(0, 3), TOKENS, COST) / 0.9) + 200)
    counts = [0] * len(spec.layers)
    for _ in range(len(counts)):
        got = share(tuple(counts), spec, here, TOKENS, COST)
        assert got is not None
        for layer in range(got.first, got.last):
            counts[layer] += 1
        if all(counts):
            return
    pytest.fail(f"layers are left: {counts}")


def test_held_layers_counts_peers_that_hold_or_load_and_nobody_twice():
    spec = model(4)
    anna = record(1, (Span(0, 3), Span(2, 4)))
    ben = record(2, (Span(0, 6),), state="stored")
    cleo = record(3, (Span(4, 6),), state="fetching")
    seen = swarm(anna, ben, cleo)
    assert held_layers(seen, MODEL, spec) == (1, 1, 1, 1, 1, 1)
    assert held_layers(seen, MODEL, spec, peer_id(3)) == (1, 1, 1, 1, 0, 0)
    assert held_layers(seen, OTHER_MODEL, spec) == (0,) * 6


def test_a_holding_beyond_the_model_that_a_peer_claims_is_not_counted():
    spec = model(1)
    assert held_layers(swarm(record(1, (Span(2, 900),))), MODEL, spec) == (0, 0, 1)
    assert held_layers(swarm(record(1, (Span(5, 900),))), MODEL, spec) == (0, 0, 0)


def stage(found, spec, me, owner=1):
    return stage_of(found, MODEL, spec, peer_id(me), peer_id(owner), TOKENS, COST)


def test_a_quick_newcomer_takes_more_than_was_missing_and_a_slow_one_no_more():
    spec = model(6)
    needed = memory_bytes(spec, spec.span, TOKENS, COST)
    room = int(0.8 * needed / 0.9)
    slow, quick = device(read=1e5, memory=room), device(read=4e6, memory=room)
    founder = record(1, (Span(0, 6),), of=slow)  # all that fits
    taken = stage(swarm(founder, record(2, of=quick)), spec, 2)
    missing = Span(6, 8)
    assert taken.covers(missing)
    assert len(taken) > len(missing)
    founder = record(1, (Span(0, 6),), of=quick)
    here = swarm(founder, record(2, of=slow))
    assert stage(here, spec, 2) in (None, missing)
    counts = held_layers(here, MODEL, spec, peer_id(2))
    assert share(counts, spec, slow, TOKENS, COST) == missing


def test_who_would_not_be_asked_or_could_not_be_reached_through_has_no_stage():
    spec = model(6)
    needed = memory_bytes(spec, spec.span, TOKENS, COST)
    whole = device(memory=2 * needed)
    slow = device(read=1e5, memory=2 * needed)
    assert stage(swarm(record(1, (spec.span,), of=whole), record(2, of=slow)), spec, 2) is None
    half = device(memory=int(0.7 * needed / 0.9))
    nobody = swarm(record(1, of=half), record(2, of=half))
    assert stage(nobody, spec, 2) is None
    tiny = device(memory=1)
    assert stage(swarm(record(1, of=tiny), record(2, of=tiny)), spec, 2) is None


def test_what_a_device_has_given_to_another_model_is_left_to_it():
    """Before, the founder's whole memory was planned for, and the newcomer had no stage."""
    spec = model(6)
    needed = memory_bytes(spec, spec.span, TOKENS, COST)
    memory = int(2 * needed / 0.9)
    free = memory - weight_bytes(spec, spec.span, COST)
    quick, slow = device(read=4e6, memory=memory), device(read=1e5, memory=memory)
    founder, newcomer = record(1, (spec.span,), of=quick, room=free), record(2, of=slow)
    assert stage(swarm(founder, newcomer), spec, 2) is None
    other = Holding(OTHER_MODEL, Span(0, 9), "ready")
    holdings = (*founder.holdings, other)
    busy = replace(founder, holdings=holdings, room_bytes=max(0, free - int(1.2 * needed)))
    assert stage(swarm(busy, newcomer), spec, 2) is not None
