"""Canonical bytes: one byte form a value, on every machine and for ever."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.ids import canonical_bytes, digest, is_hex, is_name, short
from manyhands.domain.span import Span

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def turned(value):
    """The same value with every mapping told in the opposite order and lists as tuples."""
    if isinstance(value, Mapping):
        return {key: turned(value[key]) for key in reversed(list(value))}
    if isinstance(value, list):
        return tuple(turned(item) for item in value)
    return value


@given(plain)
def test_equal_values_give_equal_bytes_whatever_order_they_are_told_in(value):
    assert canonical_bytes(turned(value)) == canonical_bytes(value)


@given(st.lists(st.integers()), st.lists(st.integers()))
def test_different_values_give_different_bytes(one, other):
    assert (canonical_bytes(one) == canonical_bytes(other)) == (one == other)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [1.5, None, True]}, b'{"a":[1.5,null,true],"b":1}'),
        ("é", b'"\\u00e9"'),
        (b"\x00\xff", b'{"hex":"00ff"}'),
        (memoryview(b"\x01"), b'{"hex":"01"}'),
        (Span(1, 3), b'{"first":1,"last":3,"type":"Span"}'),
        ({3: 0.1}, b'{"3":0.1}'),
    ],
)
def test_canonical_bytes_are_exactly_these(value, expected):
    assert canonical_bytes(value) == expected


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_whole_number_has_the_same_bytes_whether_it_is_told_as_int_or_float(number):
    assert canonical_bytes(float(number)) == canonical_bytes(number)


def test_the_digest_of_a_span_is_exactly_this():
    expected = "e9820aa08dac5e04300f84ec414a5ac979fd411b7d8558be64c13ef4b3d54cd9"
    assert digest("span", Span(1, 3)) == expected


def test_two_kinds_with_the_same_fields_never_share_bytes():
    @dataclass(frozen=True)
    class Other:
        first: int
        last: int

    assert canonical_bytes(Other(1, 3)) != canonical_bytes(Span(1, 3))


def test_the_purpose_keeps_digests_apart():
    assert digest("a", 1) != digest("b", 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_numbers_that_are_not_finite_have_no_canonical_bytes(value):
    with pytest.raises(ValueError, match="finite"):
        canonical_bytes(value)


@pytest.mark.parametrize("value", [object(), Span, {1, 2}, 1j])
def test_what_is_not_data_has_no_canonical_bytes(value):
    with pytest.raises(TypeError, match="no canonical bytes"):
        canonical_bytes(value)


def test_hex_is_lower_case_of_exact_length():
    assert is_hex("0af9", 4)
    assert not is_hex("0AF9", 4)
    assert not is_hex("0af", 4)
    assert not is_hex("0ag9", 4)


def test_short_is_the_first_eight():
    assert short("0123456789abcdef") == "01234567"


@pytest.mark.parametrize(
    ("text", "good"),
    [("tcp:h:1", True), ("", True), ("x" * 200, True), ("x" * 201, False), ("a\x1bb", False)],
)
def test_a_name_for_others_is_short_and_printable(text, good):
    assert is_name(text) == good
    assert not is_name("b\u00fccher")
