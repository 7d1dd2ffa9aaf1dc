"""Stored tensors become float32 exactly, or are refused by name."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.stored_parts import expert_of
from manyhands.domain.tensor_frame import StoredTensor
from manyhands.engine.weights import read_float32, stack_float32
from manyhands.errors import CheckpointError, NotServed

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def stored(tensor):
    name = next(name for name, dtype in DTYPES.items() if dtype == tensor.dtype)
    data = tensor.contiguous().view(torch.uint8).numpy().tobytes()
    return StoredTensor(name, tuple(tensor.shape), memoryview(data))


def reads(**tensors):
    return lambda source: stored(tensors[source.names[0]])


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None)
@given(st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=20))
def test_every_dtype_is_widened_exactly(dtype, numbers):
    tensor = torch.tensor(numbers).to(DTYPES[dtype])
    ours = read_float32(TensorSource(("a",), (len(numbers),)), reads(a=tensor))
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, tensor.float().numpy())


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_layouts_are_undone(dtype):
    matrix = torch.arange(6.0).reshape(2, 3).to(dtype)
    expected = matrix.float().numpy()
    for layout, kept in (("plain", matrix), ("tied", matrix), ("transpose", matrix.T)):
        ours = read_float32(TensorSource(("a",), (2, 3), layout), reads(a=kept))
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_columns_are_cut_out_of_each_run_and_turned(dtype):
    """q, k, v of two heads of two, as GPT-2 would keep them by kind (one run) or by head (two)."""
    stored_columns = torch.arange(36.0).reshape(3, 12).to(dtype)
    rows = stored_columns.T.float()
    for first, last, of, expected in (
        (4, 8, 12, rows[4:8]),
        (2, 4, 6, torch.cat([rows[2:4], rows[8:10]])),
    ):
        source = TensorSource(("a",), (4, 3), "columns", first, last, of)
        ours = read_float32(source, reads(a=stored_columns))
        np.testing.assert_array_equal(ours, expected.numpy())


def test_columns_of_a_matrix_of_another_size_are_a_typed_error():
    source = TensorSource(("a",), (4, 3), "columns", 4, 8, 12)
    with pytest.raises(CheckpointError, match=r"\[3, 13\], the model needs \[3, 12\]"):
        read_float32(source, reads(a=torch.zeros(3, 13)))


def test_matrices_of_different_dtypes_and_layouts_lie_under_each_other():
    a, b = torch.randn(2, 3), torch.randn(3, 4).bfloat16()
    sources = [TensorSource(("a",), (2, 3)), TensorSource(("b",), (4, 3), "transpose")]
    ours = stack_float32(sources, reads(a=a, b=b))
    np.testing.assert_array_equal(ours, torch.cat([a, b.float().T]).numpy())


def test_a_shape_that_is_not_the_models_is_a_typed_error():
    with pytest.raises(CheckpointError, match=r"'a' has shape \[2, 3\], the model needs \[3, 2\]"):
        read_float32(TensorSource(("a",), (3, 2)), reads(a=torch.zeros(2, 3)))


def test_too_few_bytes_are_a_typed_error():
    short = StoredTensor("F32", (2, 3), memoryview(bytes(23)))
    with pytest.raises(CheckpointError, match="23 bytes, not 24"):
        read_float32(TensorSource(("a",), (2, 3)), lambda source: short)


@pytest.mark.parametrize("layout", ["experts"])
def test_layouts_that_are_not_served_are_refused_by_name(layout):
    with pytest.raises(NotServed, match=layout):
        read_float32(TensorSource(("a",), (2, 3), layout), reads(a=torch.zeros(2, 3)))


def test_dtypes_that_are_not_served_are_refused_by_name():
    eight = StoredTensor("I8", (2,), memoryview(bytes(2)))
    with pytest.raises(NotServed, match="I8"):
        read_float32(TensorSource(("a",), (2,)), lambda source: eight)


def cut(tensors):
    """Weights out of a dict; a row layout is cut, as `store` does."""

    def read(source):
        tensor = tensors[source.names[0]]
        is_cut = source.layout == "rows"
        return stored(tensor[source.first : source.last] if is_cut else tensor)

    return read


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_one_expert_is_cut_out_of_a_stack_and_its_layout_undone(dtype):
    stack = torch.arange(2.0 * 4 * 3).reshape(2, 4, 3).to(dtype)  # 2 experts, out 4, in 3
    biases = torch.arange(8.0).reshape(2, 4).to(dtype)
    gates, ups = stack[:, 0::2], stack[:, 1::2]
    weights = cut({"s": stack, "t": stack.transpose(1, 2), "b": biases})
    for name, shape, layout, expected in (
        ("s", (2, 4, 3), "expert_stack", stack),
        ("t", (2, 4, 3), "expert_turned", stack),
        ("t", (2, 4, 3), "expert_pairs", torch.cat([gates, ups], 1)),
        ("b", (2, 4), "expert_stack", biases),
        ("b", (2, 4), "expert_pairs", torch.cat([biases[:, 0::2], biases[:, 1::2]], 1)),
    ):
        one = expert_of(TensorSource((name,), shape, layout), 1)
        np.testing.assert_array_equal(read_float32(one, weights), expected[1].float().numpy())


def test_quantised_numbers_of_another_dtype_are_refused_by_name():
    source = expert_of(TensorSource(("b", "s"), (2, 4, 32), "mxfp4"), 0)
    wide = {"b": torch.zeros(2, 4, 1, 16), "s": torch.zeros(2, 4, 1)}
    with pytest.raises(NotServed, match=r"'b' is stored as F32.*U8"):
        read_float32(source, cut(wide))
