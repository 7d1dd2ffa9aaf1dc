"""Norms and gates of rows by kernels are torch's, and each row's bits are its own."""

import pytest
import torch

from engine_cases import HAS_NUMBA
from manyhands.domain.model_spec import Mlp, Norm
from manyhands.engine import torch_math
from manyhands.engine.compiled import new_crew
from manyhands.engine.layer_weights import NormWeights
from manyhands.engine.torch_integers import in_vectors
from manyhands.engine.torch_rows import activate, norm
from ordinary import ordinary

pytestmark = pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")

FORMS = {
    "rms": Norm("rms", 1e-5),
    "plus one": Norm("rms", 1e-6, plus_one=True),
    "layer": Norm("layer", 1e-5),
}
NEAR = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


@pytest.fixture
def crew():
    return new_crew(2)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [16, 80, 1024, 72])
@pytest.mark.parametrize("has_weight", [True, False])
def test_it_is_what_torch_computes(crew, dtype, form, width, has_weight):
    rows = torch.from_numpy(ordinary(9, 2 * width)).to(dtype)[:, :width]
    weight = torch.from_numpy(ordinary(width, seed=1)).to(dtype) if has_weight else None
    weights, before = NormWeights(weight, None), rows.clone()
    got = norm(crew, rows, FORMS[form], weights)
    expected = torch_math.norm(rows, FORMS[form], weights)
    torch.testing.assert_close(got, expected, atol=NEAR[dtype], rtol=NEAR[dtype])
    assert torch.equal(rows, before)


@pytest.mark.parametrize("dtype", NEAR)
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(crew, dtype):
    rows = torch.from_numpy(ordinary(512, 96)).to(dtype)
    weights = NormWeights(torch.from_numpy(ordinary(96, seed=1)).to(dtype), None)
    together = norm(crew, rows, FORMS["rms"], weights)
    for row in (0, 1, 7, 31, 511):
        alone = norm(crew, rows[row : row + 1], FORMS["rms"], weights)
        assert torch.equal(alone[0], together[row])


def test_heads_of_a_row_are_normed_each_by_itself(crew):
    heads = torch.from_numpy(ordinary(3, 6, 32))[:, 1:5]
    weights = NormWeights(torch.from_numpy(ordinary(32, seed=1)), None)
    expected = torch_math.norm(heads, FORMS["rms"], weights)
    torch.testing.assert_close(norm(crew, heads, FORMS["rms"], weights), expected)


def test_numbers_that_are_none_make_their_row_nan_and_no_other(crew):
    rows = torch.from_numpy(ordinary(4, 32)).bfloat16()
    rows[1, 3], rows[2, 0] = float("nan"), float("inf")
    got = norm(crew, rows, FORMS["rms"], NormWeights(None, None))
    expected = torch_math.norm(rows, FORMS["rms"], NormWeights(None, None))
    assert torch.equal(got.isnan(), expected.isnan())


@pytest.mark.parametrize("name", ["silu", "gelu"])
@pytest.mark.parametrize("width", [48, 40])
def test_gates_are_torchs_and_a_rows_bits_its_own(crew, name, width):
    spec = Mlp("gated", name, width)
    rows = 5 * torch.from_numpy(ordinary(65, 2 * width))
    rows[0, :6] = torch.tensor([0.0, -0.0, 300.0, -300.0, -89.0, 1e-30])
    got = activate(crew, rows, spec, in_vectors)
    expected = torch_math.activate(rows, spec, in_vectors)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    for row in (0, 1, 31, 64):
        assert torch.equal(activate(crew, rows[row : row + 1], spec, in_vectors)[0], got[row])


def test_a_gate_that_is_no_number_stays_none(crew):
    rows = torch.from_numpy(ordinary(2, 64))
    rows[0, 3], rows[1, 4], rows[1, 40] = float("nan"), float("inf"), float("nan")
    spec = Mlp("gated", "silu", 32)
    got, expected = activate(crew, rows, spec, in_vectors), torch_math.activate(rows, spec)
    torch.testing.assert_close(got, expected, equal_nan=True)
