"""The plain codecs bit by bit, against numpy's own float16 and the definition of rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manyhands.codec.codec import decode, encode

any_bits = st.integers(0, 2**32 - 1)


def number(bits: int) -> np.ndarray:
    return np.array([[bits]], np.uint32).view(np.float32)


def through(name: str, array: np.ndarray) -> np.ndarray:
    return decode(encode(name, array))


@given(any_bits)
def test_fp32_keeps_every_bit(bits):
    assert through("fp32", number(bits)).view(np.uint32)[0, 0] == bits


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@given(bits=any_bits)
@example(bits=0x7F7FFFFF)  # the largest float32
@example(bits=0x7F7F8000)  # the first that bfloat16 would round to infinity
@example(bits=0x477FF000)  # 65520, the first that float16 would round to infinity
@example(bits=0xC77FF000)
@example(bits=0x7F800001)  # a NaN whose bits are all in the lower half
@example(bits=0xFFFFFFFF)
@example(bits=0x7F800000)
def test_finite_stays_finite_infinite_stays_infinite_and_nan_stays_nan(name, bits):
    value = number(bits)
    back = through(name, value)
    np.testing.assert_array_equal(np.isfinite(back), np.isfinite(value))
    np.testing.assert_array_equal(np.isnan(back), np.isnan(value))
    if not np.isnan(value).any():
        np.testing.assert_array_equal(np.signbit(back), np.signbit(value))


@given(any_bits)
@example(0x3F808000)  # half way between two: down to the even one
@example(0x3F818000)  # half way: up to the even one
@example(0x3F808001)
def test_bf16_rounds_to_the_nearest_and_ties_to_even(bits):
    value = number(bits)
    if not np.isfinite(value).all() or (bits & 0x7FFFFFFF) >= 0x7F7F8000:
        return
    back = int(through("bf16", value).view(np.uint32)[0, 0])
    below, above = bits & 0xFFFF0000, (bits & 0xFFFF0000) + 0x10000
    distance = bits - below
    if distance == 0x8000:
        assert back == (below if (below >> 16) % 2 == 0 else above)
    else:
        assert back == (below if distance < 0x8000 else above)


@given(st.floats(-65504, 65504, width=32))
def test_fp16_is_the_half_precision_of_ieee(value):
    array = np.array([[value]], np.float32)
    assert through("fp16", array)[0, 0] == np.float32(np.float16(np.float32(value)))


def test_saturation_is_at_the_largest_number_of_each_form():
    array = np.array([[1e30, -1e30, 3.4e38]], np.float32)
    assert through("fp16", array).tolist() == [[65504.0, -65504.0, 65504.0]]
    assert through("bf16", array)[0, 2] == np.uint32(0x7F7F0000).view(np.float32)


def test_the_bytes_are_little_endian():
    one = np.ones((1, 1), np.float32)
    assert encode("fp32", one).payload == b"\x00\x00\x80\x3f"
    assert encode("fp16", one).payload == b"\x00\x3c"
    assert encode("bf16", one).payload == b"\x80\x3f"
