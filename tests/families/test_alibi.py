"""Alibi's slopes are those that transformers computes, for head counts of every kind."""

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from manyhands.families.alibi import slopes, slopes_below


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 14, 16, 28, 71, 112])
def test_slopes_are_those_of_bloom(heads):
    expected = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    assert slopes(heads) == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 20, 32, 40])
@pytest.mark.parametrize("steepest", [8, 16])
def test_slopes_below_are_those_of_mpt(heads, steepest):
    expected = -build_mpt_alibi_tensor(heads, 2, steepest)[:, 0, 0]
    assert slopes_below(heads, steepest) == pytest.approx(expected.tolist(), rel=1e-5)
