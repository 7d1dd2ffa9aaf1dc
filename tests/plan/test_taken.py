"""Memory that other models have is not planned twice."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from manyhands.domain.work import Route, Stage
from manyhands.errors import ResourceError
from manyhands.plan.cost import MEMORY_SHARE, Cost, fits, memory_bytes, weight_bytes
from manyhands.plan.placement import place
from manyhands.plan.taken import held_by_others, left_after, left_for, left_of
from small_swarms import MODEL, OTHER_MODEL, device, model, peer_id, record, swarm

SPEC, COST, TOKENS, OWNER = model(4), Cost(), 8, peer_id(0)
NEEDED = memory_bytes(SPEC, SPEC.span, TOKENS, COST)


def holder(*holdings, memory, room):
    return replace(record(1, of=device(memory=memory), room=room), holdings=holdings)


def test_a_peer_that_holds_nothing_else_has_all_of_its_memory():
    own = Holding(MODEL, Span(0, 3), "ready")
    for held in ((), (own,), (own, Holding(OTHER_MODEL, Span(0, 9), "stored"))):
        one = holder(*held, memory=10**6, room=10**5)
        assert held_by_others(one, MODEL, SPEC, COST) == 0
        assert left_for(swarm(one), MODEL, SPEC, COST) == swarm(one)


def test_what_others_hold_is_what_is_not_free_and_not_ours():
    own, other = Holding(MODEL, Span(0, 3), "ready"), Holding(OTHER_MODEL, Span(0, 9), "ready")
    ours = weight_bytes(SPEC, Span(0, 3), COST)
    one = holder(own, other, memory=10**6, room=10**6 - ours - 70_000)
    assert held_by_others(one, MODEL, SPEC, COST) == 70_000
    liar = holder(own, other, memory=10**6, room=10**9)
    assert held_by_others(liar, MODEL, SPEC, COST) == 0
    beyond = holder(Holding(MODEL, Span(90, 99), "ready"), other, memory=10**6, room=10**6 - 9)
    assert held_by_others(beyond, MODEL, SPEC, COST) == 9


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_device_has_as_much_less_to_plan_as_was_taken(memory, taken):
    left = left_of(device(memory=memory), taken)
    assert 0 <= left.memory_bytes <= memory
    planned = max(0.0, MEMORY_SHARE * memory - taken)
    assert MEMORY_SHARE * left.memory_bytes == pytest.approx(planned, abs=1)


def test_a_second_model_is_placed_in_what_the_first_leaves():
    found = swarm(*(record(n, of=device(memory=int(1.6 * NEEDED / 0.9))) for n in (1, 2)))
    first = place(found, SPEC, OWNER, COST, tokens=TOKENS).route
    left = left_after(found, first, SPEC, TOKENS, COST)
    second = place(left, SPEC, OWNER, COST, tokens=TOKENS).route
    assert first.peers() != second.peers()
    full = left_after(left, second, SPEC, TOKENS, COST)
    third = place(full, SPEC, OWNER, COST, tokens=TOKENS).route  # 0.6 of it in each
    assert len(third) == 2
    for stage in third.stages:
        assert fits(SPEC, stage.span, full.peers[stage.peer].device, TOKENS, COST)
    with pytest.raises(ResourceError):
        place(left_after(full, third, SPEC, TOKENS, COST), SPEC, OWNER, COST, tokens=TOKENS)


def test_stages_of_one_peer_add_up_and_nothing_changes_nothing():
    found = swarm(record(1, of=device(memory=10**6)))
    assert left_after(found, Route(()), SPEC, TOKENS, COST) is found
    cuts = Span(0, 2), Span(2, 6)
    route = Route(tuple(Stage(peer_id(1), span) for span in cuts))
    sizes = sum(memory_bytes(SPEC, span, TOKENS, COST) for span in cuts)
    left = left_after(found, route, SPEC, TOKENS, COST).peers[peer_id(1)].device
    assert 10**6 - left.memory_bytes == pytest.approx(sizes / MEMORY_SHARE, abs=1)
