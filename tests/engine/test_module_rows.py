"""Tensors come back from a row as they were; a row that lies is refused, whatever it says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manyhands.engine.module_rows import MOST_SIDES, MOST_TENSORS, from_row, to_row
from manyhands.errors import NotServed, ProtocolError


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3),
        torch.randn(2, 0, 3),
        torch.tensor(1.5),
        torch.randn(4).bfloat16(),
        torch.tensor([[3, -7]]),
        torch.tensor([True, False]),
    ],
)
def test_tensors_come_back_from_a_row_as_they_were(tensor):
    one, other = from_row(to_row([tensor, torch.ones(2)]))
    assert one.dtype == tensor.dtype
    assert torch.equal(one, tensor)
    assert torch.equal(other, torch.ones(2))


def test_a_row_that_lies_is_refused():
    row = to_row([torch.randn(2, 3)])
    for place, value in ((0, 65.0), (1, 99.0), (3, 1e9), (3, 0.5), (4, float("nan")), (3, 5.0)):
        wrong = row.copy()
        wrong[0, place] = value
        with pytest.raises(ProtocolError):
            from_row(wrong)
    for wrong in (row[:, :-1], row[:, :2]):
        with pytest.raises(ProtocolError):
            from_row(wrong)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([2**24 + 1]),
        torch.tensor([-(2**24) - 1]),
        torch.randn(2).double(),
        torch.randn(2, dtype=torch.complex64),
        torch.zeros((1,) * (MOST_SIDES + 1)),
        torch.zeros(()).expand(2**24 + 1),
    ],
)
def test_numbers_that_would_not_arrive_as_they_are_are_refused(tensor):
    with pytest.raises(NotServed):
        to_row([tensor])


def test_as_many_tensors_go_as_the_head_can_say():
    some = [torch.tensor([float(place)]) for place in range(MOST_TENSORS)]
    assert torch.equal(torch.cat(from_row(to_row(some))), torch.arange(float(MOST_TENSORS)))
    with pytest.raises(NotServed, match=f"at most {MOST_TENSORS}"):
        to_row([*some, torch.zeros(1)])
    assert from_row(to_row([])) == []


def test_what_comes_back_lies_in_memory_of_its_own():
    row = to_row([torch.ones(3)])
    (tensor,) = from_row(row)
    row[:] = 7
    assert torch.equal(tensor, torch.ones(3))


@given(
    st.lists(
        st.one_of(st.sampled_from([0.0, 1.0, 2.0, 3.0, 8.0, 2.0**24]), st.floats(width=32)),
        max_size=40,
    )
)
def test_any_row_gives_tensors_or_is_refused(numbers):
    row = np.array([numbers], np.float32)
    try:
        tensors = from_row(row)
    except ProtocolError:
        return
    assert len(tensors) == int(numbers[0])
    head = 1 + sum(2 + tensor.dim() for tensor in tensors)
    assert head + sum(tensor.numel() for tensor in tensors) == len(numbers)


def test_sides_whose_product_no_number_holds_are_refused_even_beside_a_side_of_none():
    sides = [2.0**24] * (MOST_SIDES - 1)
    with pytest.raises(ProtocolError, match="sides"):
        from_row(np.array([[1, 0, MOST_SIDES, *sides, 0]], np.float32))
