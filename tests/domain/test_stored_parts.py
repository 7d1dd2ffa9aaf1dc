"""Which stored tensors a source is made of, layout by layout."""

import pytest

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.stored_parts import expert_of, stored_parts

SHAPE = (3, 6, 64)
"""Experts, out, in."""


def forms(source):
    return [(part.names[0], part.shape, part.layout) for part in stored_parts(source)]


def test_a_plain_tensor_is_its_own_part():
    source = TensorSource(("w",), (6, 64), "rows", 2, 8)
    assert stored_parts(source) == (source,)


@pytest.mark.parametrize(
    ("layout", "whole", "one"),
    [
        ("expert_stack", (3, 6, 64), (1, 6, 64)),
        ("expert_turned", (3, 64, 6), (1, 64, 6)),
        ("expert_pairs", (3, 64, 6), (1, 64, 6)),
    ],
)
def test_a_stack_is_one_tensor_and_an_expert_a_row_of_it(layout, whole, one):
    source = TensorSource(("w",), SHAPE, layout)
    assert forms(source) == [("w", whole, "plain")]
    expert = expert_of(source, 2)
    assert expert.shape == (6, 64)
    assert forms(expert) == [("w", one, "rows")]
    assert [(part.first, part.last) for part in stored_parts(expert)] == [(2, 3)]


@pytest.mark.parametrize("layout", ["expert_stack", "expert_pairs"])
def test_biases_of_a_stack_are_rows_of_one_matrix(layout):
    source = TensorSource(("b",), (3, 6), layout)
    assert forms(source) == [("b", (3, 6), "plain")]
    assert forms(expert_of(source, 0)) == [("b", (1, 6), "rows")]


def test_experts_with_a_tensor_each_have_a_name_each():
    source = TensorSource(("w0", "w1", "w2"), SHAPE, "experts")
    assert forms(source) == [(f"w{e}", (6, 64), "plain") for e in range(3)]
    assert expert_of(source, 1) == TensorSource(("w1",), (6, 64))


@pytest.mark.parametrize("layout", ["mxfp4", "mxfp4_pairs"])
def test_mxfp4_is_blocks_of_16_bytes_and_their_exponents(layout):
    source = TensorSource(("b", "s"), SHAPE, layout)
    assert forms(source) == [("b", (3, 6, 2, 16), "plain"), ("s", (3, 6, 2), "plain")]
    one = forms(expert_of(source, 1))
    assert one == [("b", (1, 6, 2, 16), "rows"), ("s", (1, 6, 2), "rows")]


def test_fp8_is_a_matrix_and_a_factor_for_each_block_the_last_ones_cut():
    source = TensorSource(("w", "f"), (6, 64), "fp8_blocks", block=(4, 24))
    assert forms(source) == [("w", (6, 64), "plain"), ("f", (2, 3), "plain")]


def test_fp8_of_experts_has_two_names_an_expert():
    names = ("w0", "f0", "w1", "f1", "w2", "f2")
    source = TensorSource(names, SHAPE, "fp8_blocks", block=(4, 24))
    expected = [(f"w{e}", (6, 64), "plain") if i == 0 else (f"f{e}", (2, 3), "plain")
                for e in range(3) for i in range(2)]  # fmt: skip
    assert forms(source) == expected
    assert forms(expert_of(source, 2)) == expected[4:]
