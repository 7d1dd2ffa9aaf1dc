"""The best order of devices, and the best cuts of the row of layers between them, as numbers.

Exact for a few devices (dynamic programme over subsets and cuts), greedy and local search for many.
Knows nothing of models, memory or links: those have become tables of seconds before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

EXACT_DEVICES = 8

STARTS = 4
"""Greedy placements climbed from. Of 1,300 random fleets of 3-6 devices with odd links, 5 % ended
over 2 % slower than exact from one start, 0.8 % from four, 0.6 % from twenty."""

Seconds = NDArray[np.float64]
"""One entry a number of layers done, 0 … L; infinite where that cannot be."""

Order = tuple[int, ...]
"""The devices of a pipeline, first stage first, each a place 0 … n-1 in the tables."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What is known of n devices and L layers, in seconds; infinite where nothing may be sent.

    done_s [device][l]: layers 0 … l-1 there. earliest [device][l]: the least first layer of a stage
    that ends before l and fits, l where none does. enter_s, leave_s
    [device]: links from and to the owner. hop_s [source][target]: the link between two.
    """

    done_s: tuple[Seconds, ...]
    earliest: tuple[NDArray[np.intp], ...]
    enter_s: tuple[float, ...]
    leave_s: tuple[float, ...]
    hop_s: tuple[tuple[float, ...], ...]

    @property
    def devices(self) -> int:
        """How many devices."""
        return len(self.done_s)

    @property
    def layers(self) -> int:
        """How many layers."""
        return len(self.done_s[0]) - 1


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An order, the ends 0, …, L of its stages, and seconds of a step round it.

    Without cuts the devices cannot hold the model in this order; `held` layers they can.
    """

    order: Order
    cuts: tuple[int, ...]
    step_s: float
    held: int

    def key(self) -> tuple[int, float, int, Order]:
        """Most layers held, then soonest, then fewest devices, then lowest places."""
        return -self.held, self.step_s, len(self.order), self.order


def search(tables: Tables) -> tuple[Pipeline, Pipeline]:
    """The quickest pipeline of any devices, and the quickest of all; there is at least one."""
    return _exact(tables) if tables.devices <= EXACT_DEVICES else _searched(tables)


def cut(tables: Tables, order: Order) -> Pipeline:
    """The best cuts for exactly these devices in this order."""
    doors = [_entered(tables, order[0])]
    reached = _through(tables, order[0], doors[0])
    for source, target in pairwise(order):
        doors.append(reached + tables.hop_s[source][target])
        reached = _through(tables, target, doors[-1])
    held = int(np.max(np.flatnonzero(np.isfinite(reached)), initial=0))
    step_s = float(reached[-1]) + tables.leave_s[order[-1]]
    if not isfinite(step_s):
        return Pipeline(order, (), inf, held)
    cuts = [tables.layers]
    for place, door_s in zip(reversed(order), reversed(doors), strict=True):
        cuts.append(_stage_first(tables, place, door_s, cuts[-1]))
    return Pipeline(order, tuple(reversed(cuts)), step_s, held)


def _window_min(values: Seconds, first: NDArray[np.intp]) -> Seconds:
    """[l] -> min(values[first[l]:l]), infinite where that is empty (by doubling, all l at once)."""
    table = [values]
    while 2 ** len(table) < len(values):
        half, step = table[-1], 2 ** (len(table) - 1)
        table.append(np.minimum(half, np.concatenate((half[step:], np.full(step, np.inf)))))
    last = np.arange(len(values))
    lengths = last - first
    level = np.maximum(np.frexp(lengths)[1] - 1, 0)
    stacked = np.stack(table)
    found = np.minimum(stacked[level, first], stacked[level, np.maximum(last - 2**level, 0)])
    return np.where(lengths > 0, found, np.inf)


def _through(tables: Tables, place: int, door_s: Seconds) -> Seconds:
    """[c] seconds to stand at this device with c layers done -> [l] seconds with its stage done."""
    done = tables.done_s[place]
    return done + _window_min(door_s - done, tables.earliest[place])


def _entered(tables: Tables, place: int) -> Seconds:
    door_s = np.full(tables.layers + 1, np.inf)
    door_s[0] = tables.enter_s[place]
    return door_s


def _stage_first(tables: Tables, place: int, door_s: Seconds, last: int) -> int:
    """Where the best stage that ends before `last` begins."""
    start = int(tables.earliest[place][last])
    window = (door_s - tables.done_s[place])[start:last]
    return start + int(np.argmin(window))


def _door(
    tables: Tables, place: int, before: int, reached: dict[tuple[int, int], Seconds]
) -> Seconds:
    """[c] least seconds to stand at this device with c layers done by the devices of `before`."""
    if not before:
        return _entered(tables, place)
    ways = [
        reached[before, source] + tables.hop_s[source][place]
        for source in range(tables.devices)
        if before >> source & 1
    ]
    best: Seconds = np.min(ways, axis=0)
    return best


def _exact(tables: Tables) -> tuple[Pipeline, Pipeline]:
    """The best pipeline of any subset, and the best of all devices; subsets are bit masks."""
    count = tables.devices
    reached: dict[tuple[int, int], Seconds] = {}
    doors: dict[tuple[int, int], Seconds] = {}
    for used in range(1, 2**count):
        for place in range(count):
            if used >> place & 1:
                doors[used, place] = _door(tables, place, used ^ (1 << place), reached)
                reached[used, place] = _through(tables, place, doors[used, place])
    ends = [
        (float(seconds[-1]) + tables.leave_s[place], used.bit_count(), used, place)
        for (used, place), seconds in reached.items()
    ]
    whole = [end for end in ends if end[1] == count]
    best, together = (
        Pipeline((place,), (), inf, 0)
        if step_s == inf
        else cut(tables, _backwards(tables, doors, reached, used, place))
        for step_s, _, used, place in (min(ends), min(whole))
    )
    return best, together


def _backwards(
    tables: Tables,
    doors: dict[tuple[int, int], Seconds],
    reached: dict[tuple[int, int], Seconds],
    used: int,
    place: int,
) -> Order:
    """The order that gave reached[used, place] at the last layer."""
    order, last = [place], tables.layers
    while used.bit_count() > 1:
        last = _stage_first(tables, place, doors[used, place], last)
        used ^= 1 << place
        sources = [n for n in range(tables.devices) if used >> n & 1]
        place = min(
            sources, key=lambda n: float(reached[used, n][last]) + tables.hop_s[n][order[-1]]
        )
        order.append(place)
    return tuple(reversed(order))


def _sorted_places(tables: Tables) -> tuple[Order, Order]:
    """All devices, quickest first, and those that hold most first."""
    places = range(tables.devices)
    quickest = sorted(places, key=lambda n: (float(tables.done_s[n][-1]), n))
    largest = sorted(places, key=lambda n: (int(tables.earliest[n][-1]), n))
    return tuple(quickest), tuple(largest)


def _searched(tables: Tables) -> tuple[Pipeline, Pipeline]:
    """The best that climbing from several starts reaches, and all devices in the greedy orders."""
    greedy = [
        cut(tables, order[:size])
        for order in _sorted_places(tables)
        for size in range(1, tables.devices + 1)
    ]
    together = min((one for one in greedy if len(one.order) == tables.devices), key=Pipeline.key)
    starts: dict[frozenset[int], Pipeline] = {}
    for one in sorted(greedy, key=Pipeline.key):
        starts.setdefault(frozenset(one.order), one)
    chosen = list(starts.values())[:STARTS]
    return min((_climb(tables, start) for start in chosen), key=Pipeline.key), together


def _climb(tables: Tables, best: Pipeline) -> Pipeline:
    """The best single change again and again until none helps."""
    while True:
        tried = min((cut(tables, order) for order in _near(tables, best.order)), key=Pipeline.key)
        if tried.key() >= best.key():
            return best
        best = tried


def _near(tables: Tables, order: Order) -> Iterator[Order]:
    """Orders one change away: one less, one more, one instead, two swapped, one moved."""
    unused = [n for n in range(tables.devices) if n not in order]
    for at, place in enumerate(order):
        rest = order[:at] + order[at + 1 :]
        if rest:
            yield rest
        yield from ((*order[:at], other, *order[at + 1 :]) for other in unused)
        yield from ((*rest[:to], place, *rest[to:]) for to in range(len(order)) if to != at)
        for to in range(at + 1, len(order)):
            yield (*order[:at], order[to], *order[at + 1 : to], place, *order[to + 1 :])
    for at in range(len(order) + 1):
        yield from ((*order[:at], other, *order[at:]) for other in unused)
