"""Two thin matrices: exact where the rank allows, nearest for the rows that really come."""

import numpy as np
import pytest

from manyhands.codec.low_rank import columns_for, decompose, moments, output_error
from manyhands.errors import UserError
from ordinary import ordinary


def uneven(count, width):
    """Rows most of whose size lies in few directions, as activations' does."""
    turn = np.linalg.qr(ordinary(width, width, seed=5))[0]
    return (ordinary(count, width, seed=6) * 0.8 ** np.arange(width)) @ turn.T


@pytest.mark.parametrize("is_whitened", [False, True])
def test_a_matrix_of_that_rank_comes_back(is_whitened):
    matrix = ordinary(30, 4) @ ordinary(4, 20, seed=1)
    seen = moments(uneven(200, 20)) if is_whitened else None
    np.testing.assert_allclose(decompose(matrix, 4, seen).whole, matrix, atol=2e-3)


def test_plain_singular_values_are_the_least_error_for_rows_that_are_alike():
    matrix = ordinary(24, 16)
    kept = np.linalg.svd(matrix, compute_uv=False)
    lost = np.linalg.norm(decompose(matrix, 6).whole - matrix)
    assert lost == pytest.approx(np.sqrt(np.square(kept[6:]).sum()), rel=1e-3)


def test_whitening_loses_less_of_what_comes_out():
    matrix, rows = ordinary(48, 32), uneven(4000, 32)
    seen = moments(rows)
    errors = [output_error(matrix, decompose(matrix, 8, by).whole, seen) for by in (None, seen)]
    assert errors[1] < 0.5 * errors[0]


def test_the_output_error_is_that_of_the_rows_themselves():
    matrix, rows = ordinary(12, 16), uneven(500, 16)
    thin = decompose(matrix, 5, moments(rows))
    lost = rows @ thin.whole.T - rows @ matrix.T
    expected = np.sqrt(np.square(lost).mean() / np.square(rows @ matrix.T).mean())
    assert output_error(matrix, thin.whole, moments(rows)) == pytest.approx(expected, rel=1e-3)


def test_directions_never_seen_do_no_harm():
    rows = np.zeros((50, 16), np.float32)
    rows[:, :3] = ordinary(50, 3)
    matrix = ordinary(20, 16)
    thin = decompose(matrix, 3, moments(rows))
    assert np.isfinite(thin.whole).all()
    np.testing.assert_allclose(rows @ thin.whole.T, rows @ matrix.T, atol=0.05)
    assert np.isfinite(decompose(matrix, 3, np.zeros((16, 16))).whole).all()


@pytest.mark.parametrize(("out", "into"), [(1024, 1024), (4096, 1024), (30, 7)])
def test_a_saving_is_kept(out, into):
    rank = columns_for(out, into, 0.6)
    assert rank * (out + into) <= 0.4 * out * into
    assert (rank + 1) * (out + into + 1) > 0.4 * out * into


@pytest.mark.parametrize("rank", [0, -1, 21])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(UserError, match="has no rank"):
        decompose(ordinary(30, 20), rank)
    with pytest.raises(UserError, match="saving"):
        columns_for(30, 20, 1.0)
