"""The best cuts of the row of layers between devices whose order is given, as numbers.

Knows nothing of models, memory or links, which have become tables of seconds before; nor of which
orders to try, see `plan/orders`. P pipelines of equally many stages are cut at once, L layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
"""Its last axis has one entry a number of layers done, 0 … L; infinite where that cannot be."""

Places = NDArray[np.intp]

Order = tuple[int, ...]
"""The devices of a pipeline, first stage first, each a place 0 … n-1 in the tables."""

AT_ONCE = 1024
"""Orders cut together, so that their tables stay in the processor's cache, nearly."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What is known of n devices and L layers, in seconds; infinite where nothing may be sent.

    done_s [n, L+1]: layers 0 … l-1 there. earliest [n, L+1]: the least first layer of a stage that
    ends before l and fits, l where none does. enter_s, leave_s [n]: links from and to the owner.
    hop_s [n, n]: the link from one to another.
    """

    done_s: Seconds
    earliest: Places
    enter_s: Seconds
    leave_s: Seconds
    hop_s: Seconds

    @property
    def devices(self) -> int:
        """How many devices."""
        return len(self.done_s)

    @property
    def layers(self) -> int:
        """How many layers."""
        return int(self.done_s.shape[1]) - 1


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


def cut(tables: Tables, order: Order) -> Pipeline:
    """The best cuts for exactly these devices in this order."""
    doors, reached = _doors(tables, np.array([order]))
    held = int(np.max(np.flatnonzero(np.isfinite(reached[0])), initial=0))
    step_s = float(reached[0, -1] + tables.leave_s[order[-1]])
    if not isfinite(step_s):
        return Pipeline(order, (), inf, held)
    cuts = [tables.layers]
    for place, door_s in zip(reversed(order), reversed(doors), strict=True):
        cuts.append(stage_first(tables, place, door_s[0], cuts[-1]))
    return Pipeline(order, tuple(reversed(cuts)), step_s, held)


def best_cut(tables: Tables, orders: Iterable[Order]) -> Pipeline:
    """Of orders of any lengths the one whose best cuts are best, by Pipeline.key."""
    by_length: dict[int, list[Order]] = {}
    for order in dict.fromkeys(orders):
        by_length.setdefault(len(order), []).append(order)
    found = [
        _best_of(tables, np.array(alike[first : first + AT_ONCE]))
        for alike in by_length.values()
        for first in range(0, len(alike), AT_ONCE)
    ]
    return cut(tables, min(found, key=Pipeline.key).order)


def _best_of(tables: Tables, orders: Places) -> Pipeline:
    """The best of [P, stages], without its cuts."""
    reached = _doors(tables, orders)[1]
    is_reached = np.isfinite(reached)
    held = np.where(
        is_reached.any(axis=1), tables.layers - np.argmax(is_reached[:, ::-1], axis=1), 0
    )
    step_s = reached[:, -1] + tables.leave_s[orders[:, -1]]
    best = np.lexsort((*orders.T[::-1], step_s, -held))[0]
    order = tuple(int(place) for place in orders[best])
    return Pipeline(order, (), float(step_s[best]), int(held[best]))


def through(tables: Tables, places: Places, door_s: Seconds) -> Seconds:
    """[P, c] seconds to stand at each one's device with c layers done -> with its stage done."""
    done = tables.done_s[places]
    return done + _window_min(door_s - done, tables.earliest[places])


def entered(tables: Tables, places: Places) -> Seconds:
    """[P, c] seconds until the first stage may begin."""
    door_s = np.full((len(places), tables.layers + 1), np.inf)
    door_s[:, 0] = tables.enter_s[places]
    return door_s


def stage_first(tables: Tables, place: int, door_s: Seconds, last: int) -> int:
    """Where the best stage that ends before `last` begins, given one device's door."""
    start = int(tables.earliest[place, last])
    window = (door_s - tables.done_s[place])[start:last]
    return start + int(np.argmin(window))


def _doors(tables: Tables, orders: Places) -> tuple[list[Seconds], Seconds]:
    """At each stage of [P, stages] the [P, c] seconds at its door; and [P, l] behind the last."""
    doors = [entered(tables, orders[:, 0])]
    reached = through(tables, orders[:, 0], doors[0])
    for sources, targets in zip(orders.T[:-1], orders.T[1:], strict=True):
        doors.append(reached + tables.hop_s[sources, targets][:, None])
        reached = through(tables, targets, doors[-1])
    return doors, reached


def _window_min(values: Seconds, first: Places) -> Seconds:
    """[P, l] -> min(values[P, first[P, l]:l]), infinite where empty (by doubling, all at once)."""
    table = [values]
    while 2 ** len(table) < values.shape[1]:
        half, step = table[-1], 2 ** (len(table) - 1)
        doubled = half.copy()
        np.minimum(half[:, :-step], half[:, step:], out=doubled[:, :-step])
        table.append(doubled)
    last = np.arange(values.shape[1])
    lengths = last - first
    level = np.maximum(np.frexp(lengths)[1] - 1, 0)
    stacked, rows = np.stack(table), np.arange(len(values))[:, None]
    found = np.minimum(
        stacked[level, rows, np.minimum(first, last)],
        stacked[level, rows, np.maximum(last - 2**level, 0)],
    )
    return np.where(lengths > 0, found, np.inf)
