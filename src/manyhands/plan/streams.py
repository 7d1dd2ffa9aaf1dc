"""Disjoint pipelines that together give the most tokens a second to many sessions, as numbers.

A pipeline that many sessions keep busy gives a token each time its slowest stage, or its slowest
link, is done. Exact up to EXACT_DEVICES: a dynamic programme over subsets finds the best pipeline
of each, another the best way to part them. Knows nothing of models, memory, or one session's lot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhands.plan.cuts import Order, Places, Seconds, Tables
from manyhands.plan.orders import EXACT_DEVICES, subset_sizes

BETTER = 1 + 1e-9
"""What is no better than by rounding is not taken for better: fewer devices are."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A pipeline, the ends 0, …, L of its stages, and seconds between two of its tokens."""

    order: Order
    cuts: tuple[int, ...]
    token_s: float


def best_streams(tables: Tables) -> tuple[tuple[Stream, ...], Stream | None]:
    """The streams that give the most together, and the best one alone; empty where nothing fits.

    `tables` has the seconds that a link is busy with a row, not those until it arrives. Of more
    devices than EXACT_DEVICES each that holds all layers is a stream; the others join by twelves,
    those with the most room first.
    """
    places = list(range(tables.devices))
    whole: list[int] = []
    if tables.devices > EXACT_DEVICES:
        whole = [place for place in places if not tables.earliest[place, -1]]
        places = sorted(set(places) - set(whole), key=lambda n: int(tables.earliest[n, -1]))
    groups = [[place] for place in whole]
    groups += [places[at : at + EXACT_DEVICES] for at in range(0, len(places), EXACT_DEVICES)]
    streams: list[Stream] = []
    alone: list[Stream] = []
    for group in groups:
        found, best = _of_group(_only(tables, group))
        streams += [_renamed(stream, group) for stream in found]
        alone += [_renamed(best, group)] if best is not None else []
    return tuple(streams), min(alone, key=lambda stream: stream.token_s, default=None)


def _only(tables: Tables, group: list[int]) -> Tables:
    return Tables(
        tables.done_s[group],
        tables.earliest[group],
        tables.enter_s[group],
        tables.leave_s[group],
        tables.hop_s[np.ix_(group, group)],
    )


def _renamed(stream: Stream, group: list[int]) -> Stream:
    return Stream(tuple(group[place] for place in stream.order), stream.cuts, stream.token_s)


def _of_group(tables: Tables) -> tuple[list[Stream], Stream | None]:
    slowest = _slowest(tables)
    ends = np.maximum(slowest[:, :, -1], tables.leave_s)
    token_s = ends.min(axis=1)
    if not np.isfinite(token_s).any():
        return [], None

    def stream(used: int) -> Stream:
        order, cuts = _backwards(tables, slowest, used, int(np.argmin(ends[used])))
        return Stream(order, cuts, float(token_s[used]))

    sizes = subset_sizes(tables.devices)
    best = int(np.lexsort((sizes, token_s))[0])
    return [stream(used) for used in _parted(token_s)], stream(best)


def _slowest(tables: Tables) -> Seconds:
    """[subset, last device, l] of l layers done by exactly these: the slowest stage or link."""
    count, width = tables.devices, tables.layers + 1
    masks, sizes = np.arange(2**count), subset_sizes(count)
    slowest = np.full((2**count, count, width), np.inf)
    for size in range(1, count + 1):
        for place in range(count):
            used = masks[(sizes == size) & (masks >> place & 1 == 1)]
            door_s = _door(tables, slowest, used ^ (1 << place), place)
            done = tables.done_s[place]
            for last in range(1, width):
                first = int(tables.earliest[place, last])
                if first < last:
                    stage_s = done[last] - done[first:last]
                    slowest[used, place, last] = np.maximum(door_s[:, first:last], stage_s).min(1)
    return slowest


def _door(tables: Tables, slowest: Seconds, before: Places, place: int) -> Seconds:
    """[P, c] the slowest so far where c layers are done by the subsets `before`, this link in."""
    best = np.full((len(before), tables.layers + 1), np.inf)
    if not before[0]:
        best[:, 0] = tables.enter_s[place]
        return best
    for source in range(tables.devices):
        if source != place:
            arrived = np.maximum(slowest[before, source], tables.hop_s[source, place])
            np.minimum(best, arrived, out=best)
    return best


def _backwards(
    tables: Tables, slowest: Seconds, used: int, place: int
) -> tuple[Order, tuple[int, ...]]:
    """The order and cuts that gave slowest[used, place] at the last layer."""
    order, cuts = [place], [tables.layers]
    while True:
        last, used = cuts[-1], used ^ (1 << place)
        first = int(tables.earliest[place, last])
        door_s = _door(tables, slowest, np.array([used]), place)[0, first:last]
        stage_s = tables.done_s[place, last] - tables.done_s[place, first:last]
        cuts.append(first + int(np.argmin(np.maximum(door_s, stage_s))))
        if not used:
            return tuple(reversed(order)), tuple(reversed(cuts))
        arrived = np.maximum(slowest[used, :, cuts[-1]], tables.hop_s[:, place])
        place = int(np.argmin(np.where(used >> np.arange(tables.devices) & 1, arrived, np.inf)))
        order.append(place)


def _parted(token_s: Seconds) -> list[int]:
    """The disjoint subsets whose tokens a second add up to the most; a device may be in none."""
    rate = [1 / seconds if np.isfinite(seconds) else 0.0 for seconds in token_s]
    total, taken = [0.0] * len(rate), [0] * len(rate)
    for mask in range(1, len(rate)):
        lowest = mask & -mask
        others = mask ^ lowest
        total[mask], part = total[others], others
        while True:
            sum_of_both = rate[part | lowest] + total[others ^ part]
            if sum_of_both > total[mask] * BETTER:
                total[mask], taken[mask] = sum_of_both, part | lowest
            if not part:
                break
            part = part - 1 & others
    found, mask = [], len(rate) - 1
    while mask:
        found += [taken[mask]] if taken[mask] else []
        mask ^= taken[mask] or mask & -mask
    return found
