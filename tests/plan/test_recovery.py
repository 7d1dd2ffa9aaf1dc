"""Who stands in, and what must be replayed: pure answers, checked against slow ones."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hash_swarm import MODEL, MODEL_ID, SPEC
from manyhands.domain.device import Device
from manyhands.domain.ids import PeerId
from manyhands.domain.span import Span, is_cover
from manyhands.domain.swarm import Holding, PeerRecord, Swarm
from manyhands.domain.work import Route, Stage
from manyhands.plan.cost import Cost
from manyhands.plan.recovery import Facts, ReplaySpan, chunks, new_route, replays, stand_ins

DEVICE = Device("cpu", 1 << 30, 1e10, 1e11, 1e-4)
CUTS = (Span(0, 3), Span(3, 6), Span(6, 8))
OWNER, A, B, C, D = (PeerId(letter * 64) for letter in "0abcd")
NOBODY: frozenset[PeerId] = frozenset()


def record(peer: PeerId, *ready: Span, stored: bool = False, **changes: object) -> PeerRecord:
    held = [Holding(MODEL_ID, span, "ready") for span in ready]
    held += [Holding(MODEL_ID, SPEC.span, "stored")] if stored else []
    made = PeerRecord(
        peer, 1, 1e9, f"memory:{peer}", DEVICE, "hash", holdings=tuple(held), room_bytes=1 << 30
    )
    return replace(made, **changes)


def swarm(*records: PeerRecord) -> Swarm:
    return Swarm(1, {r.peer: r for r in records})


def facts(route: Route, position: int = 50, **changes: object) -> Facts:
    made = Facts(MODEL_ID, OWNER, MODEL.profile, route, position, 100)
    return replace(made, **changes)


LINE = Route(tuple(Stage(peer, span) for peer, span in zip((A, B, C), CUTS, strict=True)))
HERE = swarm(record(A, CUTS[0]), record(B, CUTS[1]), record(C, CUTS[2]), record(D, stored=True))


def after(lost=NOBODY, broken=frozenset(), here: Swarm = HERE, **changes: object) -> Route | None:
    return stand_ins(here, SPEC, facts(LINE, **changes), Cost(), lost=lost, broken=broken)


def test_a_lost_stage_is_stood_in_for_and_the_others_stay() -> None:
    assert after(lost=frozenset({B})) == Route((LINE.stages[0], Stage(D, CUTS[1]), LINE.stages[2]))


def test_two_lost_neighbours_are_one_stand_in() -> None:
    found = after(lost=frozenset({B, C}))
    assert found == Route((LINE.stages[0], Stage(D, Span(3, 8))))


def test_a_survivor_that_stands_in_keeps_its_own_stage_apart() -> None:
    here = swarm(record(A, CUTS[0], stored=True), record(C, CUTS[2]))
    found = after(lost=frozenset({B}), here=here)
    assert found == Route((LINE.stages[0], Stage(A, CUTS[1]), LINE.stages[2]))


def test_a_loaded_span_is_preferred_to_one_that_must_be_loaded() -> None:
    ready = PeerId("e" * 64)
    big = replace(SPEC, layers=SPEC.layers)
    here = swarm(*HERE.peers.values(), record(ready, CUTS[1]))
    assert after(lost=frozenset({B}), here=here).stages[1].peer == ready
    assert big == SPEC


def test_of_a_broken_link_one_end_is_replaced_and_the_link_is_not_used() -> None:
    found = after(broken=frozenset({(A, B)}))
    peers = [stage.peer for stage in found.stages]
    assert (A, B) not in pairwise(peers)
    assert D in peers
    assert (A in peers) or (B in peers)


def test_a_broken_link_to_or_from_the_owner_replaces_that_stage() -> None:
    assert after(broken=frozenset({(OWNER, A)})).stages[0].peer == D
    assert after(broken=frozenset({(C, OWNER)})).stages[-1].peer == D


def test_nobody_to_stand_in_is_no_route() -> None:
    here = swarm(*(HERE.peers[peer] for peer in (A, B, C)))
    assert after(lost=frozenset({B}), here=here) is None


def test_a_stand_in_needs_room_for_the_weights() -> None:
    here = swarm(*(HERE.peers[peer] for peer in (A, B, C)), record(D, stored=True, room_bytes=10))
    assert after(lost=frozenset({B}), here=here) is None


def test_kernels_of_another_set_stand_in_only_if_the_profile_allows_it() -> None:
    here = swarm(*(HERE.peers[peer] for peer in (A, B, C)), record(D, stored=True, kernels="other"))
    assert after(lost=frozenset({B}), here=here) is None
    allowed = replace(MODEL.profile, accepts=("other",))
    assert after(lost=frozenset({B}), here=here, profile=allowed).stages[1].peer == D


def test_without_any_loss_the_route_stays_as_it_is() -> None:
    assert after() == LINE


def test_if_no_partial_route_exists_all_stages_are_chosen_anew() -> None:
    e = PeerId("e" * 64)
    here = swarm(*HERE.peers.values(), record(e, stored=True))
    every_link_of_d = frozenset({(A, D), (D, C), (A, e), (e, C)})
    found = after(lost=frozenset({B}), broken=every_link_of_d, here=here)
    assert found is not None
    peers = [OWNER, *(stage.peer for stage in found.stages), OWNER]
    assert not every_link_of_d & set(pairwise(peers))


def test_a_new_session_prefers_loaded_spans_and_cuts_where_holdings_end() -> None:
    here = swarm(record(A, Span(0, 4), Span(4, 8)), record(D, stored=True))
    found = new_route(here, SPEC, facts(Route(())), Cost())
    assert found == Route((Stage(A, Span(0, 4)), Stage(A, Span(4, 8))))
    alone = new_route(swarm(record(D, stored=True)), SPEC, facts(Route(())), Cost())
    assert alone == Route((Stage(D, SPEC.span),))
    assert new_route(swarm(record(A, CUTS[0])), SPEC, facts(Route(())), Cost()) is None


@given(
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sets(st.sampled_from([A, B, C, D]), max_size=3),
)
def test_whatever_is_lost_the_route_covers_and_uses_nobody_lost(stored, lost) -> None:
    here = swarm(
        *(
            record(peer, *([span] if span else []), stored=can)
            for (peer, span), can in zip(
                zip((A, B, C, D), (*CUTS, None), strict=True), stored, strict=True
            )
        )
    )
    found = after(lost=frozenset(lost), here=here)
    if found is None:
        left = [peer for peer, can in zip((A, B, C, D), stored, strict=True) if peer not in lost]
        can_load = [p for p in left if stored[(A, B, C, D).index(p)]]
        assert lost & {A, B, C}
        assert not can_load
    else:
        assert is_cover([stage.span for stage in found.stages], len(SPEC.layers))
        assert not lost & set(found.peers())
        kept = [stage for stage in LINE.stages if stage.peer not in lost]
        assert set(kept) <= set(found.stages)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 20))
def test_after_all_replays_every_stage_holds_the_position(lengths, position) -> None:
    held = list(lengths)
    for span in replays(lengths, position):
        if span.source >= 0:
            assert lengths[span.source] >= position  # it has what it is asked to send
        for stage in range(span.source + 1, span.through + 1):
            assert span.first <= held[stage]  # no gap
            held[stage] = span.last
    assert all(length >= position for length in held)


def test_stages_that_hold_enough_are_left_alone() -> None:
    assert replays([5, 5, 5], 5) == ()
    assert replays([5, 0, 3, 5, 1], 5) == (ReplaySpan(0, 2, 0, 5), ReplaySpan(3, 4, 1, 5))
    assert replays([0, 5], 5) == (ReplaySpan(-1, 0, 0, 5),)


@pytest.mark.parametrize(
    ("first", "last", "size", "expected"),
    [(0, 5, 2, [(0, 2), (2, 4), (4, 5)]), (3, 3, 2, []), (1, 4, 9, [(1, 4)])],
)
def test_chunks_are_whole_but_the_last(first, last, size, expected) -> None:
    assert list(chunks(first, last, size)) == expected


@pytest.mark.parametrize(
    ("first", "expected"), [(0, [(0, 5), (5, 7), (7, 8)]), (5, [(5, 7), (7, 8)]), (7, [(7, 8)])]
)
def test_a_source_is_one_chunk(first, expected) -> None:
    assert list(chunks(first, 8, 2, source=5)) == expected
    assert list(chunks(first, min(first + 1, 8), 2, source=5))[-1][1] == min(first + 1, 8)
