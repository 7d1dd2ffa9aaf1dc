"""The row of blocks and what stands around it is found by watching; what cannot be cut says why."""

import pytest
import torch
from torch import nn

from manyhands.engine.module_cut import Mismatch, around, find_blocks, scores_of, watch


class Block(nn.Module):
    """A linear map, and experts in a list of their own."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 1) for _ in range(5))

    def forward(self, x):
        return self.map(x) + sum(expert(x) for expert in self.experts)


class Model(nn.Module):
    """`order` says which blocks are called, and between which of them `middle` is."""

    def __init__(self, order=(0, 1, 2), middle_after=None):
        super().__init__()
        self.enter = nn.Linear(4, 4)
        self.inner = nn.Module()
        self.inner.blocks = nn.ModuleList(Block() for _ in range(3))
        self.inner.scale = nn.Parameter(torch.ones(4))
        self.middle, self.leave = nn.Linear(4, 4), nn.Linear(4, 2)
        self.never = nn.Linear(4, 4)
        self.order, self.middle_after = order, middle_after

    def forward(self, x):
        x = self.enter(x) * self.inner.scale
        for place, number in enumerate(self.order):
            x = self.inner.blocks[number](x)
            if place == self.middle_after:
                x = self.middle(x)
        return self.leave(x)


GIVEN = ((torch.ones(1, 4),), {})
BLOCKS = [f"inner.blocks.{number}" for number in range(3)]


def test_the_spine_is_the_row_with_the_most_weights_not_the_experts_in_it():
    assert find_blocks(Model(), GIVEN) == BLOCKS


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 0, 1, 2), (0, 1)])
def test_blocks_that_are_not_called_each_once_and_in_order_are_no_spine(order):
    model = Model(order)
    for block in model.inner.blocks:
        block.experts = nn.ModuleList()
        block.forward = block.map.forward
    with pytest.raises(Mismatch, match=r"inner\.blocks is not called in a row"):
        find_blocks(model, GIVEN)


def test_a_model_without_a_list_of_modules_has_none():
    with pytest.raises(Mismatch, match="no row of modules is called"):
        find_blocks(nn.Linear(4, 4), GIVEN)


def test_weights_stand_where_their_module_is_called():
    before, behind = around(Model(), BLOCKS, GIVEN)
    # a bare weight of a module around the blocks may be used on both sides
    assert before == {"enter.weight", "enter.bias", "inner.scale"}
    assert behind == {"leave.weight", "leave.bias", "inner.scale"}


def test_a_module_that_is_called_twice_counts_on_both_sides():
    model = Model()
    model.leave = model.enter
    before, behind = around(model, BLOCKS, GIVEN)
    assert {"enter.weight", "leave.weight"} & before
    assert {"enter.weight", "leave.weight"} & behind


@pytest.mark.parametrize("place", [0, 1])
def test_weights_between_two_blocks_cannot_be_cut(place):
    with pytest.raises(Mismatch, match=r"middle\.(weight|bias) is used between its blocks"):
        around(Model(middle_after=place), BLOCKS, GIVEN)
    _, behind = around(Model(middle_after=2), BLOCKS, GIVEN)
    assert "middle.weight" in behind


def test_watching_changes_nothing_and_leaves_nothing_behind():
    model, seen = Model(), []
    expected = model(*GIVEN[0])
    watch(model, BLOCKS[:2], GIVEN, lambda name: seen.append(f"<{name[-1]}"), lambda _: "not this")
    assert seen == ["<0", "<1"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(model(*GIVEN[0]), expected)


def test_hooks_are_gone_after_a_model_that_raises():
    model = Model()
    with pytest.raises(RuntimeError):
        watch(model, BLOCKS, ((torch.ones(1, 5),), {}), lambda _: None, lambda _: None)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_scores_come_before_hidden_states_and_nothing_else_counts():
    scores, hidden = torch.ones(1), torch.zeros(1)
    assert scores_of({"logits": scores, "last_hidden_state": hidden}) is scores
    assert scores_of({"logits": None, "last_hidden_state": hidden}) is hidden
    with pytest.raises(Mismatch, match="it returns loss, no scores"):
        scores_of({"loss": scores})
