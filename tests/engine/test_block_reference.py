"""The reference gives exactly what the stated arithmetic says, worked out another way."""

from fractions import Fraction

import numpy as np
import pytest

from manyhands.codec.weight_blocks import quantise, widened
from manyhands.engine.block_reference import multiply, quantise_rows
from ordinary import ordinary


@pytest.mark.parametrize("bits", [4, 8])
def test_sums_are_integers_and_every_step_is_rounded_by_itself(bits):
    weights, rows = quantise(ordinary(3, 70), bits), ordinary(2, 70, seed=1)
    codes, by = quantise_rows(rows)
    scales, got = widened(weights.scales), multiply(weights, rows)
    for n in range(2):
        for out in range(3):
            total = np.float32(0)
            for block in range(3):
                cut = slice(32 * block, 32 * block + 32)
                products = weights.codes[out, cut].astype(int) * codes[n, cut].astype(int)
                step = np.float32(Fraction(int(products.sum())))
                total = np.float32(
                    total + np.float32(np.float32(step * scales[out, block]) * by[n, block])
                )
            assert got[n, out] == total


@pytest.mark.parametrize(("bits", "most"), [(8, 0.012), (4, 0.1)])
def test_the_product_is_near_the_plain_one(bits, most):
    matrix, rows = ordinary(64, 512), ordinary(8, 512, seed=1)
    plain = rows @ matrix.T
    got = multiply(quantise(matrix, bits), rows)
    assert np.sqrt(np.square(got - plain).mean() / np.square(plain).mean()) < most


def test_rows_of_nothing_of_tiny_and_of_no_numbers_are_defined():
    rows = ordinary(4, 64)
    rows[0] = 0
    rows[1] *= 1e-36
    rows[2, 3] = np.inf
    rows[3, 40] = np.nan
    codes, by = quantise_rows(rows)
    assert not codes[:2].any()
    assert np.isnan(by[2, 0])
    assert np.isfinite(by[2, 1])
    got = multiply(quantise(ordinary(5, 64), 8), rows)
    assert not got[0].any()
    assert np.abs(got[1]).max() == 0
    assert np.isnan(got[2:]).all()
