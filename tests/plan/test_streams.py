"""Streams for many sessions: the most of every way to part the devices and to cut the layers."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations
from math import inf, isclose
from random import Random

import numpy as np
import pytest

from manyhands.plan.cuts import Tables
from manyhands.plan.streams import best_streams


def random_tables(seed, most=4, layers=5):
    chance = Random(seed)
    count = chance.randint(1, most)
    ends = np.arange(layers + 1)
    room = [chance.randint(0, layers) for _ in range(count)]

    def link_s():
        return chance.choice([0.0, 0.0, 0.5, 3.0, inf])

    return Tables(
        done_s=np.array(
            [np.cumsum([0.0, *(chance.randint(1, 4) for _ in range(layers))]) for _ in range(count)]
        ),
        earliest=np.array([np.maximum(ends - size, 0) for size in room]),
        enter_s=np.array([link_s() for _ in range(count)]),
        leave_s=np.array([link_s() for _ in range(count)]),
        hop_s=np.array([[link_s() for _ in range(count)] for _ in range(count)]),
    )


def token_s(tables, order, cuts):
    """Seconds between two tokens, infinite where it cannot be."""
    times = [tables.enter_s[order[0]], tables.leave_s[order[-1]]]
    times += [tables.hop_s[a, b] for a, b in pairwise(order)]
    for place, (first, last) in zip(order, pairwise(cuts), strict=True):
        fits = first >= tables.earliest[place, last]
        times.append(tables.done_s[place, last] - tables.done_s[place, first] if fits else inf)
    return max(times)


def best_of(tables, devices):
    """The least over every order of exactly these and every cut."""
    return min(
        (
            token_s(tables, order, (0, *inner, tables.layers))
            for order in permutations(devices)
            for inner in combinations(range(1, tables.layers), len(devices) - 1)
        ),
        default=inf,
    )


def most_of_all(tables, devices):
    """Tokens a second of the best way to part these devices."""
    if not devices:
        return 0.0
    first, *rest = devices
    found = most_of_all(tables, rest)
    for size in range(len(rest) + 1):
        for others in combinations(rest, size):
            left = [place for place in rest if place not in others]
            found = max(found, 1 / best_of(tables, (first, *others)) + most_of_all(tables, left))
    return found


def test_no_other_way_to_part_and_cut_gives_more():
    for seed in range(1000):
        tables = random_tables(seed)
        streams, alone = best_streams(tables)
        total = sum(1 / stream.token_s for stream in streams)
        assert isclose(total, most_of_all(tables, range(tables.devices)), abs_tol=1e-12), seed
        used = [place for stream in streams for place in stream.order]
        assert len(used) == len(set(used))
        for stream in streams:
            assert isclose(token_s(tables, stream.order, stream.cuts), stream.token_s), seed
        assert (alone is None) == (not streams)
        if alone is not None:
            sizes = range(1, tables.devices + 1)
            every = [best_of(tables, c) for n in sizes for c in combinations(range(sizes[-1]), n)]
            assert isclose(alone.token_s, min(every)), seed


def test_more_devices_than_are_parted_exactly_are_used_as_well():
    count, layers = 26, 20
    ends = np.arange(layers + 1)
    room = np.array([layers if n % 2 else layers // 2 for n in range(count)])
    zeros = np.zeros(count)
    tables = Tables(
        np.tile(ends * 1.0, (count, 1)),
        np.maximum(ends - room[:, None], 0),
        zeros,
        zeros,
        np.zeros((count, count)),
    )
    streams, _ = best_streams(tables)
    assert sum(1 / stream.token_s for stream in streams) == pytest.approx(count / layers, rel=0.05)
