"""Crowds from seeds: everybody is told its own text, memory is never short of its word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hash_swarm import MODEL
from manyhands.domain.work import Sampling
from manyhands.errors import MemoryFull
from manyhands.sim.crowd import SETTINGS, Crowd, Guest, crowd, crowd_breach, play_crowd

TEXT = tuple(number * 7 % 64 for number in range(300))


def check(seeds: range, kills: bool) -> None:
    found = []
    for seed in seeds:
        drawn = crowd(seed, kills)
        found.append(crowd_breach(drawn, play_crowd(drawn, MODEL), MODEL))
    assert [what for what in found if what] == []


@pytest.mark.parametrize("first", range(0, 30, 10))
def test_in_too_little_memory_everybody_who_stays_is_told_all_of_it(first: int) -> None:
    check(range(first, first + 10), kills=False)


@pytest.mark.parametrize("first", range(0, 30, 10))
def test_when_a_stage_is_killed_nothing_untrue_is_told_and_nothing_left(first: int) -> None:
    check(range(first, first + 10), kills=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(1000, 2000, 100))
@pytest.mark.parametrize("kills", [False, True])
def test_two_thousand_crowds(first: int, kills: bool) -> None:
    check(range(first, first + 100), kills)


def three(**changes: object) -> Crowd:
    """Three who ask nearly the same."""
    guests = tuple(
        Guest((*TEXT[:260], 60 + n), 10, joins_s=0.3 * n, sampling=Sampling(seed=n))
        for n in range(3)
    )
    return replace(Crowd(1, 2, 0, 40, guests), **changes)


def test_who_asks_what_another_is_asking_waits_and_shares_it() -> None:
    drawn = three()
    night = play_crowd(drawn, MODEL)
    assert crowd_breach(drawn, night, MODEL) == ""
    assert [told.shared for told in night.farewells] == [0, 256, 256]


def test_a_killed_stage_is_filled_again_though_the_beginning_was_shared() -> None:
    for at_s in (0.5, 2.0, 3.0, 4.0):
        for stage in (0, 1):
            drawn = three(spares=1, kills=((stage, at_s),))
            night = play_crowd(drawn, MODEL)
            assert crowd_breach(drawn, night, MODEL) == ""
            assert [told.error for told in night.farewells] == [None] * 3


def test_with_room_for_one_they_come_one_after_the_other() -> None:
    guests = tuple(Guest(tuple(TEXT[n : n + 100]), 20, 0.0) for n in range(4))
    drawn = Crowd(1, 3, 0, 2, guests)
    night = play_crowd(drawn, MODEL)
    assert crowd_breach(drawn, night, MODEL) == ""
    assert night.most_waiting == 3


def test_who_has_waited_long_enough_is_told_that_memory_is_full() -> None:
    guests = (Guest(TEXT[:100], 200, 0.0), Guest(TEXT[50:150], 20, 0.1))
    settings = replace(SETTINGS, admission_wait_s=0.5)
    first, second = play_crowd(Crowd(1, 2, 0, 5, guests, settings=settings), MODEL).farewells
    assert first.error is None
    assert isinstance(second.error, MemoryFull)
    assert "behind 0 others" in str(second.error)


def test_the_same_crowd_leaves_the_same_trace() -> None:
    drawn = crowd(5, kills=True)
    assert play_crowd(drawn, MODEL).trace == play_crowd(drawn, MODEL).trace
