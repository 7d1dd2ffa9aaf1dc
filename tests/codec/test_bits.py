"""Masks of a bit a token."""

from __future__ import annotations

import numpy as np

from manyhands.codec.codec import decode, encode


def test_bit_i_of_a_row_is_bit_i_mod_8_of_its_byte_i_div_8_and_rows_end_with_whole_bytes():
    mask = np.zeros((2, 10), np.bool_)
    mask[0, 0] = mask[0, 9] = mask[1, 7] = True
    frame = encode("bits", mask)
    assert frame.payload == b"\x01\x02\x80\x00"
    np.testing.assert_array_equal(decode(frame) != 0, mask)


def test_a_mask_of_a_large_vocabulary_is_an_eighth_of_it():
    assert len(encode("bits", np.ones((1, 152_064), np.bool_)).payload) == 19_008


def test_everything_that_is_not_zero_counts_as_one():
    assert encode("bits", np.array([[0.0, -3.0, 0.5]], np.float32)).payload == b"\x06"
