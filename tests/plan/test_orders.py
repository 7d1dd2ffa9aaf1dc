"""The search for the order of devices: exact against every order and cut, climbing against exact.

A hundred random fleets in the quick tests, a thousand in the slow ones.
"""

from __future__ import annotations

from math import isclose, isfinite
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.errors import ResourceError
from manyhands.plan import orders
from manyhands.plan.cuts import Tables, cut
from manyhands.plan.placement import place
from random_fleets import COST, OWNER, TOKENS, Fleet, best_of_all, random_fleet

WITHIN = 0.02
FLEETS = (
    pytest.param(range(100), id="quick"),
    pytest.param(
        range(1000, 2000), id="thousand", marks=[pytest.mark.slow, pytest.mark.timeout(900)]
    ),
)


def placed_s(fleet: Fleet) -> float | None:
    """Seconds of a step as the planner places it."""
    try:
        return place(fleet.swarm, fleet.spec, OWNER, COST, tokens=TOKENS).step_s
    except ResourceError:
        return None


@pytest.mark.parametrize("seeds", FLEETS)
def test_the_planner_is_as_quick_as_the_best_of_every_order_and_every_cut(seeds):
    for seed in seeds:
        fleet = random_fleet(seed, 2, 5, blocks=(1, 5))
        best_s, alone_s = best_of_all(fleet)
        got_s = placed_s(fleet)
        assert (got_s is None) == (not isfinite(best_s)), seed
        if got_s is not None:
            assert isclose(got_s, best_s, rel_tol=1e-9), seed
            assert got_s <= alone_s * (1 + 1e-9), seed


@pytest.mark.parametrize("seeds", FLEETS)
def test_climbing_ends_within_two_percent_of_exact(seeds, monkeypatch):
    over = []
    for seed in seeds:
        fleet = random_fleet(seed, 3, 8)
        exact_s = placed_s(fleet)
        with monkeypatch.context() as patched:
            patched.setattr(orders, "EXACT_DEVICES", 0)
            climbed_s = placed_s(fleet)
        assert (climbed_s is None) == (exact_s is None), seed
        if exact_s is not None:
            assert climbed_s >= exact_s * (1 - 1e-9), seed
            over.append((climbed_s / exact_s - 1, seed))
    assert len(over) > 0.7 * len(seeds)  # most fleets hold the model
    assert median(one for one, _ in over) < 1e-9
    assert [one for one in over if one[0] > WITHIN] == []


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.booleans())
def test_it_is_never_slower_than_the_best_single_device(seed, climbs):
    with pytest.MonkeyPatch.context() as patched:
        if climbs:
            patched.setattr(orders, "EXACT_DEVICES", 0)
        fleet = random_fleet(seed, 2, 7)
        together_s = placed_s(fleet)
        for peer in fleet.swarm.peers:
            try:
                alone = place(fleet.swarm, fleet.spec, OWNER, COST, tokens=TOKENS, peers=[peer])
            except ResourceError:
                continue
            assert together_s is not None
            assert together_s <= alone.step_s * (1 + 1e-9)


def house(count: int, layers: int, memory: float = 1.0) -> Tables:
    """Devices of three speeds on unlike links, each with room for a part of the layers."""
    number = np.arange(count)
    each_s = np.array([1e-3, 2e-3, 5e-3])[number % 3] * (1 + number / 100)
    room = ((0.1 + (number * 7 % 11) / 25) * layers * memory).astype(int) + 1
    ends = np.arange(layers + 1)
    return Tables(
        done_s=each_s[:, None] * ends,
        earliest=np.maximum(ends - room[:, None], 0),
        enter_s=1e-3 * (1 + number * 3 % 5),
        leave_s=1e-3 * (1 + number * 5 % 7),
        hop_s=1e-3 * (1 + (number[:, None] * 3 + number * 5) % 7),
    )


def test_twelve_devices_are_searched_exactly_and_the_cuts_lie_within_each_ones_room():
    tables = house(12, 82)
    best, together = orders.search(tables)
    assert len(together.order) == 12
    assert best.step_s <= together.step_s
    for found in (best, together):
        assert sorted(set(found.order)) == sorted(found.order)
        assert (found.cuts[0], found.cuts[-1]) == (0, 82)
        for place_, first, last in zip(found.order, found.cuts, found.cuts[1:], strict=False):
            assert tables.earliest[place_, last] <= first < last
    climbed = orders.climbed(tables)[0]
    assert best.step_s <= climbed.step_s <= best.step_s * (1 + WITHIN)


def test_twenty_devices_are_placed_at_least_as_well_as_any_twelve_of_them():
    tables = house(20, 42, memory=0.5)
    got = orders.search(tables)[0]
    some = slice(0, 12)
    twelve = Tables(
        tables.done_s[some],
        tables.earliest[some],
        tables.enter_s[some],
        tables.leave_s[some],
        tables.hop_s[some, some],
    )
    assert got.step_s <= orders.search(twelve)[0].step_s * (1 + WITHIN)
    assert isclose(cut(tables, got.order).step_s, got.step_s)
