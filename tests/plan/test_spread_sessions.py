"""Queues that an owner's other sessions mean, and where the next session therefore goes."""

import pytest

from manyhands.domain.span import Span
from manyhands.domain.work import Route, Stage
from manyhands.plan.cost import Cost, span_s
from manyhands.plan.routing import route
from manyhands.plan.spreading import Running, at_home, queued
from small_swarms import MODEL, device, model, peer_id, record, swarm

SPEC, COST, OWNER = model(4), Cost(context=4), peer_id(0)
WHOLE = SPEC.span


def whole(number):
    return Route((Stage(peer_id(number), WHOLE),))


def running(number, sessions=1):
    return Running(SPEC, COST, whole(number), sessions)


def taken(found):
    return route(found, SPEC, MODEL, OWNER, COST).peers()


def two(first=1e6, second=1e6):
    return swarm(*(record(n, (WHOLE,), device(r)) for n, r in ((1, first), (2, second))))


def test_the_next_session_goes_where_fewer_are():
    found = two()
    assert taken(found) == (peer_id(1),)
    assert taken(queued(found, OWNER, [running(1)])) == (peer_id(2),)
    assert taken(queued(found, OWNER, [running(1), running(2)])) == (peer_id(1),)
    assert taken(queued(found, OWNER, [running(1, 4), running(2, 5)])) == (peer_id(1),)


def test_a_quicker_peer_gets_as_many_more_as_it_is_quicker():
    found = two(4e6, 1e6)
    at_first = 0
    counts = {1: 0, 2: 0}
    for _ in range(20):
        among = queued(found, OWNER, [running(n, c) for n, c in counts.items() if c])
        number = 1 if taken(among) == (peer_id(1),) else 2
        at_first += number == 1 and not counts[2]
        counts[number] += 1
    assert at_first >= 2
    assert counts[1] > 2 * counts[2] > 0


def test_at_a_stage_a_session_is_for_its_part_of_a_round_only():
    half = len(SPEC.layers) // 2
    spans = Span(0, half), Span(half, len(SPEC.layers))
    found = swarm(*(record(n, (span,)) for n, span in enumerate(spans, 1)))
    pipeline = Route(tuple(Stage(peer_id(n), span) for n, span in enumerate(spans, 1)))
    among = queued(found, OWNER, [Running(SPEC, COST, pipeline, 3)])
    for number, span in enumerate(spans, 1):
        here_s = span_s(SPEC, span, device(), COST)
        assert 0 < among.peers[peer_id(number)].queue_s < 3 * here_s


def test_sessions_of_peers_that_are_gone_wait_nowhere():
    found = two()
    assert queued(found, OWNER, [running(9)]) is found
    assert queued(found, OWNER, []) is found


def test_who_has_the_beginning_in_memory_is_taken_unless_the_wait_there_costs_more():
    found = two()
    home = whole(2)
    assert taken(at_home(found, SPEC, COST, home, 64)) == (peer_id(2),)
    assert at_home(found, SPEC, COST, home, 0) is found
    busy = queued(found, OWNER, [running(2, 9)])
    assert taken(at_home(busy, SPEC, COST, home, 64)) == (peer_id(1),)
    other = at_home(found, SPEC, COST, home, 64).peers[peer_id(1)]
    again_s = span_s(SPEC, WHOLE, device(), Cost(context=4, tokens=64))
    assert other.queue_s == pytest.approx(again_s / 128)
