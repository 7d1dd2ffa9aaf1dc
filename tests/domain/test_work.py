"""Sampling values, what may be wanted, and the form of a route."""

import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.span import Span
from manyhands.domain.work import Route, Sampling, Stage, Want
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


WHOLES = ["seed", "sample_index", "top_k"]
REALS = [
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
]


@pytest.mark.parametrize("name", WHOLES)
@pytest.mark.parametrize("value", [None, True, "1", 1.5, 1.0, [1], np.float64(1), np.bool_(1), 1j])
def test_what_is_no_whole_number_is_refused_with_name_value_and_rule(name, value):
    told = rf"^{name} is {re.escape(repr(value))}; it must be a whole number"
    with pytest.raises(BadSampling, match=told):
        Sampling(**{name: value})


@pytest.mark.parametrize("name", REALS)
@pytest.mark.parametrize("value", [None, True, "hot", [1.0], np.ones(2), Decimal(1), 10**400, 1j])
def test_what_is_no_number_is_refused_with_name_value_and_rule(name, value):
    told = rf"^{name} is {re.escape(repr(value)[:200])}; it must be a number in"
    with pytest.raises(BadSampling, match=told):
        Sampling(**{name: value})


@pytest.mark.parametrize(
    ("biases", "told"),
    [
        ([1], r"logit_bias is \[1\]; it must map token ids"),
        (None, "logit_bias is None; it must map token ids"),
        ({"a": 1}, "logit_bias token is 'a'; it must be a token id"),
        ({"5": 1.0}, "logit_bias token is '5'; it must be a token id"),
        ({True: 1.0}, "logit_bias token is True; it must be a token id"),
        ({1.5: 1.0}, "logit_bias token is 1.5; it must be a token id"),
        ({5: "no"}, "logit_bias is 'no'; it must be a number or -inf"),
        ({5: None}, "logit_bias is None; it must be a number or -inf"),
        ({5: False}, "logit_bias is False; it must be a number or -inf"),
        ({5: 10**400}, "logit_bias is 10+; it must be a number or -inf"),
    ],
)
def test_a_bias_of_another_form_is_refused_by_what_is_wrong_with_it(biases, told):
    with pytest.raises(BadSampling, match=f"^{told}"):
        Sampling(logit_bias=biases)


def test_numbers_of_any_make_become_plain_ones_that_the_wire_can_send():
    made = Sampling(
        seed=np.uint64(2**64 - 1),
        top_k=np.int32(5),
        temperature=np.float32(0.5),
        top_p=1,
        min_p=Fraction(1, 4),
        logit_bias={np.int64(3): np.float16(-1.5), 4: 2},
    )
    plain = Sampling(
        seed=2**64 - 1,
        top_k=5,
        temperature=0.5,
        top_p=1.0,
        min_p=0.25,
        logit_bias={3: -1.5, 4: 2.0},
    )
    assert repr(made) == repr(plain)  # types and all: repr tells np.float32(0.5) from 0.5


def test_the_biases_given_may_change_afterwards():
    biases = {3: 1.0}
    sampling = Sampling(logit_bias=biases)
    biases[3] = math.nan
    assert sampling.logit_bias == {3: 1.0}


@pytest.mark.parametrize("top_n", [-1, 65_537, 1.5, 1.0, True, None, "3"])
def test_a_top_n_that_no_result_could_carry_is_refused(top_n):
    told = rf"^top_n is {top_n!r}; it must be a whole number in \[0, 65536\]"
    with pytest.raises(BadSampling, match=told):
        Want(top_n=top_n)


@pytest.mark.parametrize("top_n", [0, 5, 65_536, np.int64(5)])
def test_a_top_n_that_fits_is_kept_as_a_plain_number(top_n):
    assert repr(Want(top_n=top_n).top_n) == str(int(top_n))


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
