"""Every form of a linear map gives what the definition gives, at every number of rows."""

import pytest
import torch

from manyhands.engine import torch_linear
from manyhands.engine.torch_linear import PackedLinear, PlainLinear, make_linear, packing_works

ROWS = (1, 2, 4, 8, 33, 48, 49, 130)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("form", ["plain", "plain by vector", "plain by matrix", "made"])
def test_every_form_multiplies(dtype, tolerance, has_bias, form):
    torch.manual_seed(1)
    weight = torch.randn(40, 32).div(32**0.5).to(dtype)
    bias = torch.randn(40).to(dtype) if has_bias else None
    linear = (make_linear if form == "made" else PlainLinear)(weight.clone(), bias)
    if " by " in form:
        linear._by_vector = form.endswith("vector")
    with torch.inference_mode():
        for count in ROWS:
            rows = torch.randn(count, 32).to(dtype)
            expected = rows.float() @ weight.float().T + (0 if bias is None else bias.float())
            got = linear(rows)
            assert got.dtype == dtype
            assert got.shape == (count, 40)
            assert got.is_contiguous()
            assert (got.float() - expected).abs().max() < tolerance
    assert linear.bytes_held == (40 * 32 + 40 * has_bias) * dtype.itemsize


def test_bfloat16_is_packed_where_that_works_and_float32_never():
    weight = torch.ones(16, 16)
    assert isinstance(make_linear(weight, None), PlainLinear)
    packed = make_linear(weight.bfloat16(), None)
    assert isinstance(packed, PackedLinear) == packing_works(torch.bfloat16)


def test_the_public_product_stands_in_where_the_private_operator_is_missing(monkeypatch):
    def missing(weight):
        raise AttributeError("no such operator")

    packing_works.cache_clear()
    monkeypatch.setattr(torch_linear, "_pack", missing)
    try:
        assert not packing_works(torch.bfloat16)
        assert isinstance(make_linear(torch.ones(16, 16).bfloat16(), None), PlainLinear)
    finally:
        packing_works.cache_clear()


def test_an_operator_that_gives_wrong_numbers_is_not_used(monkeypatch):
    packing_works.cache_clear()
    monkeypatch.setattr(torch_linear, "_pack", lambda weight: weight)
    monkeypatch.setattr(
        torch_linear, "_packed_product", lambda rows, weight, bias: rows @ weight.T * 1.5
    )
    try:
        assert not packing_works(torch.bfloat16)
    finally:
        packing_works.cache_clear()
