"""Several ways at once: the first that serves is taken, and no other is left behind."""

from __future__ import annotations

import asyncio

import pytest

from manyhands.errors import PeerLost
from manyhands.net.racing import STAGGER_S, quickest
from manyhands.sim.virtual_loop import run_virtual


class Ways:
    """Each takes its seconds and then gives its number, or fails."""

    def __init__(self, *took: tuple[float, bool]) -> None:
        self.began, self.ended, self.cancelled = [], [], []
        self.all = [self._way(number, *one) for number, one in enumerate(took)]

    def _way(self, number, took_s, is_good):
        async def way():
            self.began.append(number)
            try:
                await asyncio.sleep(took_s)
            except asyncio.CancelledError:
                self.cancelled.append(number)
                raise
            self.ended.append(number)
            if not is_good:
                raise PeerLost(f"way {number}")
            return number

        return way


def raced(ways, discard=lambda _: None):
    async def race():
        clock = asyncio.get_running_loop().time
        before_s = clock()
        return await quickest(ways.all, (PeerLost,), discard), clock() - before_s

    return run_virtual(race)


def test_a_quick_first_way_is_the_only_one_tried():
    ways = Ways((0.1, True), (0.0, True))
    assert raced(ways) == (0, pytest.approx(0.1))
    assert ways.began == [0]


def test_a_slow_one_is_overtaken_and_cancelled():
    ways = Ways((9.0, True), (0.1, True), (0.0, True))
    assert raced(ways) == (1, pytest.approx(STAGGER_S + 0.1))
    assert ways.cancelled == [0]


def test_the_next_is_tried_as_soon_as_one_has_failed():
    ways = Ways((0.01, False), (0.01, False), (0.01, True))
    assert raced(ways) == (2, pytest.approx(0.03))


def test_when_all_fail_the_first_ones_error_is_raised():
    with pytest.raises(PeerLost, match="way 0"):
        raced(Ways((0.5, False), (0.01, False)))


def test_what_came_in_the_same_moment_is_given_back():
    discarded = []
    ways = Ways((STAGGER_S + 0.1, True), (0.1, True))
    won, _ = raced(ways, discarded.append)
    assert {won, *discarded} == {0, 1}


def test_other_errors_are_not_swallowed():
    async def bad():
        raise ZeroDivisionError

    async def race():
        await quickest([bad], (PeerLost,))

    with pytest.raises(ExceptionGroup) as told:
        run_virtual(race)
    assert told.group_contains(ZeroDivisionError)
