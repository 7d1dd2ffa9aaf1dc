"""The kernels of single rows give what numpy gives, and a row the same bits beside any others."""

import numpy as np
import pytest

pytest.importorskip("numba")

from manyhands.engine.compiled import kept_here

with kept_here():
    from manyhands.engine.row_kernels import gate_rows, norm_rows
from manyhands.engine.compiled_child import numbers

EPS = 1e-6


def rows(count, width):
    return numbers(count, width)


def normed(given, weight, more):
    out = np.empty_like(given)
    at = 0 if weight is None else weight.ctypes.data
    norm_rows(False, given.ctypes.data, at, out.ctypes.data, *given.shape, EPS, more)
    return out


def gated(given):
    count, width = given.shape[0], given.shape[1] // 2
    out = np.empty((count, width), np.float32)
    gate_rows(given.ctypes.data, out.ctypes.data, count, width)
    return out


@pytest.mark.parametrize("width", [16, 48, 1024])
@pytest.mark.parametrize(("has_weight", "more"), [(False, 0.0), (True, 0.0), (True, 1.0)])
def test_a_norm_is_numpys_and_the_same_alone(width, has_weight, more):
    given = rows(7, width)
    weight = rows(1, width)[0] if has_weight else None
    wide = given.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(1, keepdims=True) + EPS)
    if weight is not None:
        expected = expected * (weight + more)
    together = normed(given, weight, more)
    np.testing.assert_allclose(together, expected, rtol=2e-5, atol=1e-6)
    for row in range(7):
        assert np.array_equal(normed(given[row : row + 1].copy(), weight, more)[0], together[row])


@pytest.mark.parametrize("width", [16, 176])
def test_a_gate_is_silu_times_up_and_the_same_alone(width):
    given = rows(5, 2 * width) * 4
    gate, up = given[:, :width].astype(np.float64), given[:, width:].astype(np.float64)
    together = gated(given)
    np.testing.assert_allclose(together, gate / (1 + np.exp(-gate)) * up, rtol=2e-5, atol=1e-5)
    for row in range(5):
        assert np.array_equal(gated(given[row : row + 1].copy())[0], together[row])
