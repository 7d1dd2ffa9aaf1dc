"""The swarm as JSON: coverage, gaps, this peer first, and nothing secret."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from manyhands.api.swarm_view import HELD_BACK, MISSING, ServedModel, health, swarm_view
from manyhands.domain.span import Span
from small_swarms import MODEL, OTHER_MODEL, peer_id, record, swarm, swarms

LAYERS = 6
SERVED = ServedModel("tiny", MODEL, LAYERS, 128, speaks=True, chats=True, hears_system=True)


def view(*records, me: int = 1):
    return swarm_view(swarm(*records), peer_id(me), [SERVED], 0)


def runs(model) -> list[tuple]:
    return [(run["first"], run["last"], run["state"], run["peers"]) for run in model["coverage"]]


def test_coverage_names_for_each_run_its_best_state_and_how_many_hold_it():
    (model,) = view(
        record(1, (Span(0, 3),)), record(2, (Span(2, 4),)), record(3, (Span(0, 5),), state="stored")
    )["models"]
    assert runs(model) == [
        (0, 2, "ready", 1),
        (2, 3, "ready", 2),
        (3, 4, "ready", 1),
        (4, 5, "stored", 1),
        (5, 6, None, 0),
    ]
    assert model["missing"] == [{"first": 5, "last": 6}]


def test_this_peer_comes_first_and_the_others_in_the_order_of_their_layers():
    peers = view(
        record(1, (Span(4, 6),)), record(2, (Span(0, 2),)), record(3, (Span(2, 4),)), record(4)
    )["peers"]
    assert [peer["id"] for peer in peers] == [peer_id(n) for n in (1, 2, 3, 4)]
    assert [peer["is_me"] for peer in peers] == [True, False, False, False]
    assert peers[0]["short"] == peer_id(1)[:8]


def test_health_tells_missing_from_not_loaded_from_well():
    assert health(swarm(record(1, (Span(0, 6),))), [SERVED]) == "ok"
    stored = record(2, (Span(3, 6),), state="stored")
    assert health(swarm(record(1, (Span(0, 3),)), stored), [SERVED]) == "layers are not loaded yet"
    assert health(swarm(record(1, (Span(0, 3),))), [SERVED]) == MISSING
    assert health(swarm(), [SERVED]) == MISSING
    paused = record(2, (Span(3, 6),), state="draining")
    assert health(swarm(record(1, (Span(0, 3),)), paused), [SERVED]) == HELD_BACK


def test_of_each_peer_is_told_whether_it_gives_and_why_not():
    peers = view(record(1), replace(record(2), paused="user"))["peers"]
    assert [peer["paused"] for peer in peers] == [None, "somebody uses it"]


def test_no_address_is_told_and_nothing_of_models_that_are_not_served():
    other = ServedModel("other", OTHER_MODEL, 3, 8, speaks=False, chats=False, hears_system=False)
    seen = swarm_view(swarm(record(1, (Span(0, 6),))), peer_id(1), [other], 0)
    assert seen["peers"][0]["holdings"] == []
    assert seen["models"][0]["missing"] == [{"first": 0, "last": 3}]
    assert "address" not in json.dumps(seen)
    assert '"memory"' not in json.dumps(seen)  # the address these records have


@given(swarms(LAYERS), st.integers(0, 3))
def test_runs_cover_the_row_once_in_order_and_the_missing_ones_are_held_by_nobody(seen, me):
    (model,) = swarm_view(seen, peer_id(me), [SERVED], 0)["models"]
    assert [layer for run in model["coverage"] for layer in range(run["first"], run["last"])] == [
        *range(LAYERS)
    ]
    held = {
        layer
        for one in seen.peers.values()
        for holding in one.holdings
        for layer in range(holding.span.first, holding.span.last)
    }
    missing = {layer for run in model["missing"] for layer in range(run["first"], run["last"])}
    assert missing == set(range(LAYERS)) - held
