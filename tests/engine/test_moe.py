"""Mixtures on both engines: who is chosen, how much each counts, and that nobody else is run."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from manyhands.domain.model_spec import Mlp, Moe
from manyhands.engine import numpy_moe, torch_moe
from manyhands.engine.expert_weights import MlpWeights, MoeWeights

WIDTH, EXPERTS = 4, 8
MLP = Mlp("plain", "relu", WIDTH)
MOES = [
    Moe(EXPERTS, 3, "softmax"),
    Moe(EXPERTS, 3, "softmax", renormalise=True, scale=2.5),
    Moe(EXPERTS, 3, "softmax", softmax_after_topk=True),
    Moe(EXPERTS, 3, "sigmoid", renormalise=True),
    Moe(EXPERTS, 3, "sigmoid", groups=4, top_groups=2),
    Moe(EXPERTS, 2, "softmax", groups=2, top_groups=1, group_score="best"),
    Moe(EXPERTS, 8, "softmax"),
]


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()


ROUTER, BIAS = numbers(EXPERTS, WIDTH), numbers(EXPERTS, seed=1)
CORRECTION = numbers(EXPERTS, seed=2)


def linear(matrix, bias=0):
    return lambda rows: rows @ matrix.T + bias


class Expert:
    """A linear map that counts its rows; expert e multiplies by e + 1."""

    def __init__(self, factor):
        self.factor, self.calls = factor, []

    def __call__(self, rows):
        self.calls.append(len(rows))
        return rows * self.factor


def mixture(spec, has_extras=True, form=lambda array: array):
    """Weights with recording experts; `form` makes the engine's arrays."""
    return MoeWeights(
        spec=spec,
        router=linear(form(ROUTER), form(BIAS) if has_extras else 0),
        correction=form(CORRECTION) if has_extras else None,
        experts=tuple(MlpWeights(MLP, lambda rows: rows, Expert(e + 1)) for e in range(EXPERTS)),
        shared=None,
        shared_scale=None,
    )


def expected_route(rows, weights):
    """Of each row {expert: share}, written out with Python's lists."""
    spec, routes = weights.spec, []
    for row in rows.astype(np.float64):
        logits = ROUTER.astype(np.float64) @ row
        logits = logits if weights.correction is None else logits + BIAS
        scores = logits
        if not spec.softmax_after_topk:
            scores = np.exp(logits) / np.exp(logits).sum()
            scores = scores if spec.scoring == "softmax" else 1 / (1 + np.exp(-logits))
        choice = scores if weights.correction is None else scores + weights.correction
        size = spec.experts // spec.groups
        groups = [range(first, first + size) for first in range(0, spec.experts, size)]
        best = 1 if spec.group_score == "best" else 2
        groups.sort(key=lambda g: -sum(sorted((choice[e] for e in g), reverse=True)[:best]))
        may = [expert for group in groups[: spec.top_groups] for expert in group]
        taken = sorted(may if spec.groups > 1 else range(EXPERTS), key=lambda e: -choice[e])
        taken = taken[: spec.top_k]
        share = scores[taken]
        if spec.softmax_after_topk:
            share = np.exp(share) / np.exp(share).sum()
        share = share / share.sum() if spec.renormalise else share
        routes.append(dict(zip(taken, (share * spec.scale).tolist(), strict=True)))
    return routes


@pytest.mark.parametrize(("spec", "has_extras"), list(product(MOES, [True, False])))
def test_routes_of_both_engines_are_the_ones_written_out(spec, has_extras):
    rows, weights = numbers(20, WIDTH, seed=3), mixture(spec, has_extras)
    wanted = expected_route(rows, weights)
    in_torch = mixture(spec, has_extras, torch.from_numpy)
    theirs = torch_moe.route(torch.from_numpy(rows), in_torch)
    for chosen, shares in (
        numpy_moe.route(rows, weights),
        [tensor.numpy() for tensor in theirs],
    ):
        for row, expected in enumerate(wanted):
            got = dict(zip(chosen[row].tolist(), shares[row].tolist(), strict=True))
            assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 20])
def test_each_expert_runs_once_over_the_rows_that_chose_it_and_no_other_runs(count):
    rows = np.abs(numbers(count, WIDTH, seed=4))
    for feed, form in ((numpy_moe.feed, np.asarray), (torch_moe.feed, torch.from_numpy)):
        weights = mixture(MOES[0], False, form)
        routes = expected_route(rows, mixture(MOES[0], False))
        got = feed(form(rows), weights)
        factors = [sum((e + 1) * share for e, share in route.items()) for route in routes]
        np.testing.assert_allclose(np.asarray(got), rows * np.array(factors)[:, None], rtol=1e-5)
        for expert, made in enumerate(weights.experts):
            theirs = sum(expert in route for route in routes)
            assert made.down.calls == ([theirs] if theirs else [])


def test_a_shared_expert_sees_every_row_behind_a_sigmoid_where_it_has_one():
    rows = np.abs(numbers(5, WIDTH, seed=5))
    scale = numbers(1, WIDTH, seed=6)
    for feed, form in ((numpy_moe.feed, np.asarray), (torch_moe.feed, torch.from_numpy)):
        without = mixture(MOES[0], False, form)
        shared = replace(without, shared=MlpWeights(MLP, lambda rows: rows, Expert(10)))
        plain = np.asarray(feed(form(rows), without))
        got = np.asarray(feed(form(rows), shared))
        np.testing.assert_allclose(got, plain + 10 * rows, rtol=1e-5)
        got = np.asarray(feed(form(rows), replace(shared, shared_scale=linear(form(scale)))))
        open_ = 1 / (1 + np.exp(-rows @ scale.T))
        np.testing.assert_allclose(got, plain + 10 * rows * open_, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_rows_are_routed_as_the_same_rows_in_float32(dtype):
    rows = torch.from_numpy(np.abs(numbers(20, WIDTH, seed=7))).to(dtype)
    for count in (20, 1):
        some = rows[:count]
        got = torch_moe.feed(some, mixture(MOES[1], form=torch.from_numpy))
        wide = torch_moe.feed(some.float(), mixture(MOES[1], form=torch.from_numpy))
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), wide, rtol=0.02, atol=0.02)
