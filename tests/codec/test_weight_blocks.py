"""Blocks of integers hold a matrix to the precision they promise, whatever its shape and size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.codec.weight_blocks import (
    BLOCK,
    dequantise,
    nearest_bfloat16,
    padded,
    quantise,
    widened,
)
from manyhands.errors import UserError
from ordinary import ordinary


def wrong(matrix, bits):
    """RMS of what is lost, against the RMS of the matrix."""
    lost = dequantise(quantise(matrix, bits)) - matrix
    return float(np.sqrt(np.square(lost).mean() / np.square(matrix).mean()))


@pytest.mark.parametrize(("bits", "most"), [(8, 0.006), (4, 0.09)])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 3e4])
def test_ordinary_weights_lose_little(bits, most, scale):
    assert wrong(ordinary(256, 512, scale=scale), bits) < most


@given(
    rows=st.integers(1, 9), width=st.integers(1, 100), bits=st.sampled_from((4, 8)),
    seed=st.integers(0, 99), scale=st.floats(1e-20, 1e20),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_number_is_further_off_than_half_a_step_of_its_block(rows, width, bits, seed, scale):
    matrix = ordinary(rows, width, seed=seed, scale=scale)
    blocks = quantise(matrix, bits)
    assert blocks.codes.shape == (rows, padded(width))
    assert blocks.codes.min() >= (-127 if bits == 8 else -8)
    assert blocks.codes.max() <= (127 if bits == 8 else 7)
    steps = np.abs(np.repeat(widened(blocks.scales), BLOCK, 1)[:, :width])
    # int4 may cut a block's extreme where the others gain more than it loses
    allowed = 0.501 if bits == 8 else 1.51
    assert (np.abs(dequantise(blocks) - matrix) <= allowed * steps + 1e-38).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_stay_zeros_and_their_neighbours_what_they_are(bits):
    matrix = np.zeros((2, 70), np.float32)
    matrix[1, 69] = 3.0
    back = dequantise(quantise(matrix, bits))
    assert back[1, 69] == pytest.approx(3.0, rel=0.01)
    assert np.count_nonzero(back) == 1


def test_a_block_knows_nothing_of_its_neighbours():
    matrix = ordinary(1, 64)
    alone = quantise(matrix[:, :32].copy(), 8)
    matrix[:, 32:] *= 1000
    beside = quantise(matrix, 8)
    np.testing.assert_array_equal(beside.codes[:, :32], alone.codes)
    np.testing.assert_array_equal(beside.scales[:, :1], alone.scales)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_no_integer_can_hold_is_refused(odd, bits):
    matrix = ordinary(2, 40)
    matrix[1, 39] = odd
    with pytest.raises(UserError, match="NaN or infinity"):
        quantise(matrix, bits)


def test_the_nearest_bfloat16_is_torchs():
    numbers = np.concatenate(
        [
            ordinary(5000, scale=1e3),
            np.arange(0, 2**32, 65_521, dtype=np.uint32).view(np.float32),
            np.array([np.inf, -np.inf, 3.4e38, 1e-45, 1.00390625, 1.01171875], np.float32),
        ]
    )
    expected = torch.from_numpy(numbers).bfloat16().float().numpy()
    np.testing.assert_array_equal(widened(nearest_bfloat16(numbers)), expected)
