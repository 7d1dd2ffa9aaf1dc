"""Good orders of many devices, by labels: the K soonest ways to each (device, layers done).

Each way knows the devices it has used. Exact where the K labels suffice (elementary shortest path
by labels, Feillet et al. 2004, with at most K of them); else a start for climbing. n devices,
W = L + 1 numbers of layers done. Knows nothing of models, memory or links.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyhands.plan.cuts import Order, Places, Seconds, Tables

KEPT = 8
"""Of 300 fleets of 8 to 10 devices with odd and broken links, 4 and climbing ended over 2 % slower
than exact in two, 8 in none; 16 took twice the time. Climbing alone, from greedy orders: 4 %."""

MOST_DEVICES = 62
"""The devices a way has used are the bits of one number."""

Masks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """Ways [K, n, W], soonest first: their seconds (infinite: none), the devices used, and the
    place in [K * n * W] of the way with one stage less that they come from.
    """

    seconds: Seconds
    used: Masks
    parents: Places

    def within(self, most_s: float) -> _Ways:
        """Those that are sooner than `most_s`."""
        return _Ways(np.where(self.seconds < most_s, self.seconds, np.inf), self.used, self.parents)


def good_orders(tables: Tables, most_s: float) -> list[Order]:
    """For each number of stages the order that came out soonest, if it takes less than `most_s`."""
    stages: list[_Ways] = []
    found: list[Order] = []
    ways = _stage(tables, _begun(tables))
    while len(stages) < tables.devices:
        stages.append(ways)
        step_s = ways.seconds[:, :, -1] + tables.leave_s
        best = int(np.argmin(step_s))
        if step_s.flat[best] < most_s:
            label, place = divmod(best, tables.devices)
            found.append(_order(stages, label, place))
            most_s = float(step_s.flat[best])
        ways = ways.within(most_s)
        if not np.isfinite(ways.seconds).any():
            break
        ways = _stage(tables, _doors(tables, ways))
    return found


def _begun(tables: Tables) -> _Ways:
    """At the doors of the first stage: nothing used."""
    shape = (1, tables.devices, tables.layers + 1)
    seconds = np.full(shape, np.inf)
    seconds[0, :, 0] = tables.enter_s
    return _Ways(seconds, np.zeros(shape, np.int64), np.zeros(shape, np.intp))


def _doors(tables: Tables, ways: _Ways) -> _Ways:
    """[K, n, W] at the doors of another stage, from every device to every device not used yet."""
    places = np.arange(ways.seconds.size).reshape(ways.seconds.shape)
    best: _Ways | None = None
    for source in range(tables.devices):
        used = ways.used[:, source, None, :]
        shape = (len(used), tables.devices, used.shape[-1])
        is_free = used >> np.arange(tables.devices)[:, None] & 1 == 0
        seconds = ways.seconds[:, source, None, :] + tables.hop_s[source][:, None]
        arrived = _Ways(
            np.where(is_free, seconds, np.inf),
            np.broadcast_to(used, shape),
            np.broadcast_to(places[:, source, None, :], shape),
        )
        best = arrived if best is None else _merged(best, arrived)
    if best is None:
        raise ValueError("there are no devices")
    return best


def _stage(tables: Tables, doors: _Ways) -> _Ways:
    """Through a stage at each device: the soonest from any of its doors within its room."""
    done, last = tables.done_s, np.arange(tables.layers + 1)
    table = [_Ways(doors.seconds - done, doors.used, doors.parents)]
    while 2 ** len(table) < len(last):
        table.append(_merged(table[-1], _shifted(table[-1], 2 ** (len(table) - 1))))
    lengths = last - tables.earliest
    level = np.maximum(np.frexp(lengths)[1] - 1, 0)
    left = _picked(table, level, np.minimum(tables.earliest, last), lengths > 0)
    right = _picked(table, level, np.maximum(last - 2**level, 0), lengths > 0)
    best = _merged(left, right)
    own = np.int64(1) << np.arange(tables.devices, dtype=np.int64)
    return _Ways(best.seconds + done, best.used | own[:, None], best.parents)


def _shifted(ways: _Ways, by: int) -> _Ways:
    """Each place shows what stands `by` places on."""
    seconds = np.full_like(ways.seconds, np.inf)
    seconds[:, :, :-by] = ways.seconds[:, :, by:]
    return _Ways(seconds, np.roll(ways.used, -by, axis=2), np.roll(ways.parents, -by, axis=2))


def _picked(table: list[_Ways], level: Places, at: Places, is_there: NDArray[np.bool_]) -> _Ways:
    """[K, n, W] of each (device, layers) the ways at its own level of the table and place."""
    most = max(len(one.seconds) for one in table)
    shape = (most, *level.shape)
    seconds = np.full(shape, np.inf)
    used, parents = np.zeros(shape, np.int64), np.zeros(shape, np.intp)
    for number, one in enumerate(table):
        devices, ends = np.nonzero((level == number) & is_there)
        picked = (slice(None), devices, at[devices, ends])
        into = (slice(len(one.seconds)), devices, ends)
        seconds[into], used[into], parents[into] = (
            one.seconds[picked],
            one.used[picked],
            one.parents[picked],
        )
    return _Ways(seconds, used, parents)


def _merged(one: _Ways, other: _Ways) -> _Ways:
    """The KEPT soonest of both that no sooner one makes needless by having used no more devices."""
    seconds = np.concatenate((one.seconds, other.seconds))
    order = np.argsort(seconds, axis=0, kind="stable")
    seconds = np.take_along_axis(seconds, order, axis=0)
    used = np.take_along_axis(np.concatenate((one.used, other.used)), order, axis=0)
    for late in range(1, len(seconds)):
        is_needless = (used[:late] & ~used[late] == 0) & np.isfinite(seconds[:late])
        seconds[late][is_needless.any(axis=0)] = np.inf
    again = np.argsort(seconds, axis=0, kind="stable")[:KEPT]
    parents = np.take_along_axis(np.concatenate((one.parents, other.parents)), order, axis=0)
    return _Ways(
        np.take_along_axis(seconds, again, axis=0),
        np.take_along_axis(used, again, axis=0),
        np.take_along_axis(parents, again, axis=0),
    )


def _order(stages: list[_Ways], label: int, place: int) -> Order:
    """The devices of the way to the last layer with this label at this place."""
    _, count, width = stages[-1].seconds.shape
    order, at = [], (label, place, width - 1)
    for number in range(len(stages) - 1, -1, -1):
        order.append(at[1])
        if number:
            parent = int(stages[number].parents[at])
            at = (parent // (count * width), parent // width % count, parent % width)
    return tuple(reversed(order))
