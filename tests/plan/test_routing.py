"""Routing: the quickest way, by comparison with every way there is."""

from dataclasses import replace
from itertools import groupby, pairwise, product
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.domain.device import Link
from manyhands.domain.span import Span, is_cover
from manyhands.domain.swarm import Holding, PeerRecord, Swarm
from manyhands.domain.work import Route, Stage
from manyhands.plan import routing
from manyhands.plan.cost import Cost, kv_bytes, weight_bytes
from manyhands.plan.routing import LOADABLE, READY, holders, memory_need, route, route_s
from small_swarms import MODEL, OTHER_MODEL, device, model, peer_id, record, swarm, swarms

SPEC = model(2)
LAYERS = len(SPEC.layers)
OWNER = peer_id(0)
COST = Cost(tokens=1, context=16)


def every_route(found: Swarm, states=READY):
    hosts = [holders(found, MODEL, layer, states) for layer in range(LAYERS)]
    for choice in product(*hosts):
        stages, layer = [], 0
        for peer, run in groupby(choice):
            count = len(list(run))
            stages.append(Stage(peer, Span(layer, layer + count)))
            layer += count
        ends = (OWNER, *(stage.peer for stage in stages), OWNER)
        if not any(pair in found.broken for pair in pairwise(ends) if pair[0] != pair[1]):
            yield Route(tuple(stages))


def has_room(found: Swarm, way: Route, need) -> bool:
    return all(
        sum(
            need(peer, layer)
            for stage in way.stages
            if stage.peer == peer
            for layer in range(stage.span.first, stage.span.last)
        )
        <= found.peers[peer].room_bytes
        for peer in way.peers()
    )


def is_best(found: Swarm, got: Route | None, candidates: list[Route], extra_s=None) -> None:
    if not candidates:
        assert got is None
        return
    assert got is not None
    assert got in candidates
    best = min(route_s(found, SPEC, OWNER, way, COST, extra_s=extra_s) for way in candidates)
    assert isclose(route_s(found, SPEC, OWNER, got, COST, extra_s=extra_s), best, rel_tol=1e-9)


@given(swarms(LAYERS))
def test_the_route_is_the_quickest_of_all_routes(found):
    got = route(found, SPEC, MODEL, OWNER, COST)
    is_best(found, got, list(every_route(found)))
    assert got is None or is_cover([stage.span for stage in got.stages], LAYERS)


@given(swarms(LAYERS), st.integers(0, 30))
def test_within_the_room_of_its_peers_the_route_is_still_the_quickest(found, tokens):
    need = memory_need(found, SPEC, MODEL, tokens, COST)
    got = route(found, SPEC, MODEL, OWNER, COST, need=need, states=LOADABLE)
    is_best(found, got, [way for way in every_route(found, LOADABLE) if has_room(found, way, need)])


@given(
    swarms(LAYERS), st.lists(st.sampled_from([None, 0.0, 0.001, 0.05]), min_size=20, max_size=20)
)
def test_extra_seconds_are_counted_and_none_forbids(found, table):
    def extra_s(peer, layer):
        return table[(int(peer[:4], 16) * LAYERS + layer) % len(table)]

    allowed = [
        way
        for way in every_route(found)
        if all(
            extra_s(stage.peer, layer) is not None
            for stage in way.stages
            for layer in range(stage.span.first, stage.span.last)
        )
    ]
    is_best(found, route(found, SPEC, MODEL, OWNER, COST, extra_s=extra_s), allowed, extra_s)


@given(swarms(LAYERS))
def test_the_order_peers_were_heard_of_in_changes_nothing(found):
    turned = Swarm(
        found.version,
        dict(reversed(found.peers.items())),
        dict(reversed(found.links.items())),
        found.broken,
    )
    assert route(found, SPEC, MODEL, OWNER, COST) == route(turned, SPEC, MODEL, OWNER, COST)


@settings(max_examples=30)
@given(swarms(LAYERS), st.integers(1, 4))
def test_an_excluded_peer_or_link_is_not_used(found, number):
    gone = peer_id(number)
    without = Swarm(
        1, {p: r for p, r in found.peers.items() if p != gone}, found.links, found.broken
    )
    assert route(found, SPEC, MODEL, OWNER, COST, exclude_peers=frozenset({gone})) == route(
        without, SPEC, MODEL, OWNER, COST
    )
    cut = frozenset({(OWNER, gone), (peer_id(1), peer_id(2))})
    broken = Swarm(1, found.peers, found.links, found.broken | cut)
    assert route(found, SPEC, MODEL, OWNER, COST, exclude_links=cut) == route(
        broken, SPEC, MODEL, OWNER, COST
    )


def whole(number: int, **kwargs) -> PeerRecord:
    return record(number, (SPEC.span,), **kwargs)


def test_equal_peers_are_told_apart_by_id_and_one_stage_beats_two():
    assert route(swarm(whole(2), whole(1), whole(3)), SPEC, MODEL, OWNER, COST) == Route(
        (Stage(peer_id(1), SPEC.span),)
    )


def test_a_queue_counts_against_a_peer():
    found = swarm(whole(1, queue_s=0.5), whole(2))
    assert route(found, SPEC, MODEL, OWNER, COST).peers() == (peer_id(2),)


def test_a_slow_link_counts_against_a_peer():
    found = swarm(whole(1), whole(2), links=(Link(OWNER, peer_id(1), 1.0, 1e9),))
    assert route(found, SPEC, MODEL, OWNER, COST).peers() == (peer_id(2),)


def test_two_holdings_of_one_peer_side_by_side_are_one_stage():
    found = swarm(record(1, (Span(0, 2), Span(2, LAYERS))))
    assert route(found, SPEC, MODEL, OWNER, COST) == Route((Stage(peer_id(1), SPEC.span),))


def test_holdings_of_another_model_and_those_not_ready_are_not_used():
    other = replace(whole(1), holdings=(Holding(OTHER_MODEL, SPEC.span, "ready"),))
    assert route(swarm(other), SPEC, MODEL, OWNER, COST) is None
    for state in ("stored", "fetching", "draining"):
        assert route(swarm(whole(1, state=state)), SPEC, MODEL, OWNER, COST) is None
    assert route(swarm(whole(1, state="stored")), SPEC, MODEL, OWNER, COST, states=LOADABLE)


def test_weights_that_are_not_loaded_yet_take_room_too():
    stored = swarm(whole(1, state="stored"))
    need = memory_need(stored, SPEC, MODEL, 10, COST)
    one = Span(1, 2)
    assert need(peer_id(1), 1) == kv_bytes(SPEC, one, 10, COST) + weight_bytes(SPEC, one, COST)
    ready = swarm(whole(1))
    assert memory_need(ready, SPEC, MODEL, 10, COST)(peer_id(1), 1) == kv_bytes(SPEC, one, 10, COST)


def test_a_peer_met_twice_needs_room_for_both_stages():
    one_block = kv_bytes(SPEC, Span(1, 2), 10, COST)
    slow = device(1e3)
    found = swarm(
        record(1, (Span(0, 2), Span(2, LAYERS)), room=one_block),
        record(2, (Span(1, 2),), slow),
    )
    need = memory_need(found, SPEC, MODEL, 10, COST)
    got = route(found, SPEC, MODEL, OWNER, COST, need=need)
    assert [(stage.peer, str(stage.span)) for stage in got.stages] == [
        (peer_id(1), "[0, 1)"),
        (peer_id(2), "[1, 2)"),
        (peer_id(1), "[2, 4)"),
    ]


def test_routing_stays_quick_when_every_peer_is_short_of_room(monkeypatch):
    spec = model(14)
    one_block = kv_bytes(spec, Span(1, 2), 10, COST)
    crowd = swarm(*(record(n, (spec.span,), room=2 * one_block) for n in range(1, 13)))
    kept = []
    plain = routing._best
    monkeypatch.setattr(routing, "_best", lambda ways: kept.append(plain(ways)) or kept[-1])
    need = memory_need(crowd, spec, MODEL, 10, COST)
    got = route(crowd, spec, MODEL, OWNER, COST, need=need)
    assert got is not None
    assert max(map(len, kept)) == routing.WAYS_KEPT


@pytest.mark.parametrize("missing", range(LAYERS))
def test_without_a_holder_of_some_layer_there_is_no_route(missing):
    spans = [Span(n, n + 1) for n in range(LAYERS) if n != missing]
    assert route(swarm(record(1, tuple(spans))), SPEC, MODEL, OWNER, COST) is None


def test_a_quick_start_is_not_taken_when_it_spends_room_that_is_needed_later():
    spec = model(3)
    one_block = kv_bytes(spec, Span(1, 2), 10, COST)
    found = swarm(
        record(1, (Span(0, 2), Span(3, 5)), room=one_block),
        record(2, (Span(1, 2),), device(1e4)),
        record(3, (Span(2, 3),)),
    )
    need = memory_need(found, spec, MODEL, 10, COST)
    got = route(found, spec, MODEL, OWNER, COST, need=need)
    assert [stage.peer for stage in got.stages] == [peer_id(n) for n in (1, 2, 3, 1)]


def test_of_equally_quick_ways_the_one_with_fewer_stages_is_taken():
    names = [peer_id(n) for n in range(5)]
    free = tuple(Link(a, b, 0.0, float("inf")) for a in names for b in names if a != b)
    found = swarm(
        record(1, (Span(0, 1),)),
        record(2, (Span(1, 3),)),
        record(3, (Span(3, 4),)),
        record(4, (Span(0, 3),)),
        links=free,
    )
    got = route(found, SPEC, MODEL, OWNER, COST)
    assert got == Route((Stage(peer_id(4), Span(0, 3)), Stage(peer_id(3), Span(3, 4))))


def test_a_source_that_starts_later_may_have_the_better_link():
    found = swarm(
        record(1, (Span(0, 2),)),
        record(2, (Span(0, 2),), queue_s=0.01),
        record(3, (Span(2, 4),)),
        links=(Link(peer_id(1), peer_id(3), 1.0, 1e9),),
    )
    assert route(found, SPEC, MODEL, OWNER, COST).peers() == (peer_id(2), peer_id(3))
