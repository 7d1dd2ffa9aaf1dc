"""A row's product in float32 has the same bits alone and among others, wherever it stands."""

import numpy as np
import pytest

from manyhands.engine.row_linear import RowLinear, by_rows
from ordinary import ordinary


@pytest.mark.parametrize(("outs", "width"), [(1, 40), (8, 64), (160, 2048), (257, 100)])
def test_a_row_has_the_same_bits_beside_any_number_of_others(outs, width):
    linear = RowLinear(ordinary(outs, width), ordinary(outs, seed=1))
    rows = ordinary(512, width, seed=2)
    together = linear(rows)
    np.testing.assert_allclose(
        together, rows @ ordinary(outs, width).T + ordinary(outs, seed=1), atol=1e-3
    )
    for row in (0, 1, 2, 3, 31, 511):
        for count in (1, 2, 8, 32):
            some = linear(rows[row : row + count])
            np.testing.assert_array_equal(some[0].view(np.int32), together[row].view(np.int32))
    wide = ordinary(512, 2 * width)
    wide[:, :width] = rows  # strided
    np.testing.assert_array_equal(linear(wide[:, :width]), together)


def test_each_head_has_a_matrix_of_its_own():
    rows, matrices = ordinary(3, 5, 8), ordinary(3, 8, 6, seed=1)
    np.testing.assert_allclose(by_rows(rows, matrices), rows @ matrices, atol=1e-5)
