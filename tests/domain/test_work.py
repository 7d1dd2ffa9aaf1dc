"""Sampling values and the form of a route."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.span import Span
from manyhands.domain.work import Route, Sampling, Stage
from manyhands.errors import BadSampling
from small_swarms import peer_id


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("seed", [0, 2**64 - 1], [-1, 2**64]),
        ("sample_index", [0, 2**32 - 1], [-1, 2**32]),
        ("temperature", [0, 0.7, 100], [-0.1, 101, math.nan, math.inf]),
        ("top_k", [0, 50], [-1]),
        ("top_p", [0.01, 1], [0, 1.01, math.nan]),
        ("min_p", [0, 1], [-0.1, 1.1, math.nan]),
        ("repetition_penalty", [0.5, 100], [0, -1, 101, math.nan]),
        ("presence_penalty", [-100, 100], [-101, 101, math.nan]),
        ("frequency_penalty", [-100, 100], [-101, 101, math.nan]),
        ("logit_bias", [{}, {3: -1.5}, {0: -math.inf}], [{-1: 0.0}, {1: math.nan}, {1: math.inf}]),
    ],
)
def test_a_sampling_value_outside_its_range_is_refused_by_name(name, good, bad):
    for value in good:
        assert getattr(Sampling(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(BadSampling, match=f"^{name}"):
            Sampling(**{name: value})


def test_sampling_is_greedy_unless_told_otherwise():
    assert Sampling().temperature == 0


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6))
def test_a_route_names_each_peer_once_in_order_of_first_appearance(numbers):
    route = Route(tuple(Stage(peer_id(n), Span(i, i + 1)) for i, n in enumerate(numbers)))
    peers = route.peers()
    assert len(route) == len(numbers)
    assert set(peers) == {peer_id(n) for n in numbers}
    assert len(set(peers)) == len(peers)
    firsts = [numbers.index(int(peer[:4], 16)) for peer in peers]
    assert firsts == sorted(firsts)
