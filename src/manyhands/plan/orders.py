"""Which devices in which order: the pipeline whose steps come round soonest, as numbers.

Exact for up to EXACT_DEVICES (a dynamic programme over subsets, all of one size at once: Held and
Karp 1962, with the cuts as a further axis); beyond, what labels find (`plan/labels`), climbed from.
Knows nothing of models, memory or links.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np

from manyhands.plan.cuts import (
    Order,
    Pipeline,
    Places,
    Seconds,
    Tables,
    best_cut,
    cut,
    entered,
    stage_first,
    through,
)
from manyhands.plan.labels import MOST_DEVICES, good_orders

EXACT_DEVICES = 12

STARTS = 2
"""Of each kind that are climbed from: greedy orders, and the last ones that labels found."""


def search(tables: Tables) -> tuple[Pipeline, Pipeline]:
    """The quickest pipeline of any devices, and the quickest of all; there is at least one."""
    return exact(tables) if tables.devices <= EXACT_DEVICES else climbed(tables)


def exact(tables: Tables) -> tuple[Pipeline, Pipeline]:
    """The best pipeline of any subset, and the best of all devices; subsets are bit masks."""
    count = tables.devices
    reached = _reached(tables)
    sizes = subset_sizes(count)
    step_s = reached[:, :, -1] + tables.leave_s
    whole = 2**count - 1
    used, place = np.unravel_index(
        np.lexsort((np.repeat(sizes, count), step_s.ravel()))[0], step_s.shape
    )
    ends = ((int(used), int(place)), (whole, int(np.argmin(step_s[whole]))))
    best, together = (
        Pipeline((place,), (), inf, 0)
        if step_s[used, place] == inf
        else cut(tables, _backwards(tables, reached, used, place))
        for used, place in ends
    )
    return best, together


def subset_sizes(count: int) -> Places:
    """[2**count] how many devices each subset has."""
    masks = np.arange(2**count)
    sizes: Places = np.sum(masks[:, None] >> np.arange(count) & 1, axis=1)
    return sizes


def _reached(tables: Tables) -> Seconds:
    """[subset, last device, l] the least seconds until l layers are done by exactly these."""
    count = tables.devices
    masks, sizes = np.arange(2**count), subset_sizes(count)
    reached = np.full((2**count, count, tables.layers + 1), np.inf)
    for size in range(1, count + 1):
        for place in range(count):
            used = masks[(sizes == size) & (masks >> place & 1 == 1)]
            door_s = _door(tables, reached, used ^ (1 << place), place)
            reached[used, place] = through(tables, np.full(len(used), place), door_s)
    return reached


def _door(tables: Tables, reached: Seconds, before: Places, place: int) -> Seconds:
    """[P, c] least seconds to stand at this device with c layers done by the subsets `before`."""
    if not before[0]:
        return entered(tables, np.array([place]))
    best = np.full((len(before), tables.layers + 1), np.inf)
    for source in range(tables.devices):
        if source != place:
            np.minimum(best, reached[before, source] + tables.hop_s[source, place], out=best)
    return best


def _backwards(tables: Tables, reached: Seconds, used: int, place: int) -> Order:
    """The order that gave reached[used, place] at the last layer."""
    order, last = [place], tables.layers
    while used != 1 << place:
        used ^= 1 << place
        door_s = _door(tables, reached, np.array([used]), place)[0]
        last = stage_first(tables, place, door_s, last)
        place = int(np.argmin(reached[used, :, last] + tables.hop_s[:, place]))
        order.append(place)
    return tuple(reversed(order))


def climbed(tables: Tables) -> tuple[Pipeline, Pipeline]:
    """The best that climbing from good and greedy orders reaches, and all devices in greedy order.

    As quick as the quickest device alone, since each is a greedy order.
    """
    places = range(tables.devices)
    quickest = sorted(places, key=lambda n: (float(tables.done_s[n, -1]), n))
    largest = sorted(places, key=lambda n: (int(tables.earliest[n, -1]), n))
    together = best_cut(tables, [tuple(quickest), tuple(largest)])
    alone = [(place,) for place in places]
    orders = [tuple(order[:size]) for order in (quickest, largest) for size in range(2, len(order))]
    greedy = sorted((cut(tables, order) for order in (*alone, *orders)), key=Pipeline.key)
    labelled = good_orders(tables, inf) if tables.devices <= MOST_DEVICES else []
    starts = {one.order: one for one in greedy[:STARTS]}
    starts |= {order: cut(tables, order) for order in labelled[-STARTS:]}
    return min((_climb(tables, start) for start in starts.values()), key=Pipeline.key), together


def _climb(tables: Tables, best: Pipeline) -> Pipeline:
    """The best single change again and again until none helps."""
    while True:
        tried = best_cut(tables, [best.order, *_near(tables.devices, best.order)])
        if tried.order == best.order:
            return best
        best = tried


def _near(count: int, order: Order) -> Iterator[Order]:
    """Orders one change away: one less, one more, one instead, two swapped, one moved."""
    unused = [n for n in range(count) if n not in order]
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
