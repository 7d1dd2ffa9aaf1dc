"""MLPs and mixtures of them in numpy float32: each expert runs once, over the rows that chose it.

N rows of all sessions of a batch, D width, E experts, K chosen a row. Knows nothing of blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.model_spec import Moe
from manyhands.engine.expert_weights import MlpWeights, MoeWeights
from manyhands.engine.numpy_math import activate, sigmoid

Float32 = NDArray[np.float32]
Linear = Callable[[Float32], Float32]

LEAST_SUM = np.float32(1e-20)
"""Keeps a sum of weights that all are 0 from dividing by it."""


def feed(rows: Float32, weights: MlpWeights[Linear] | MoeWeights[Float32, Linear]) -> Float32:
    """What a block's MLP, or mixture of them, makes of rows [N, D]."""
    if isinstance(weights, MlpWeights):
        return weights.down(activate(weights.mlp_in(rows), weights.spec))
    chosen, shares = route(rows, weights)
    out = np.zeros_like(rows)
    for expert in np.unique(chosen):
        row, slot = np.nonzero(chosen == expert)
        out[row] += feed(rows[row], weights.experts[expert]) * shares[row, slot, None]
    if weights.shared is not None:
        shared = feed(rows, weights.shared)
        if weights.shared_scale is not None:
            shared *= sigmoid(weights.shared_scale(rows))
        out += shared
    return out


def route(rows: Float32, weights: MoeWeights[Float32, Linear]) -> tuple[NDArray[np.int64], Float32]:
    """The experts [N, K] of each row and how much each counts [N, K]."""
    spec = weights.spec
    scores = weights.router(rows)
    if not spec.softmax_after_topk:
        scores = _softmax(scores) if spec.scoring == "softmax" else sigmoid(scores)
    choice = scores if weights.correction is None else scores + weights.correction
    if spec.top_groups < spec.groups:
        choice = _best_groups(choice, spec)
    chosen = np.argsort(-choice, axis=1, kind="stable")[:, : spec.top_k]
    shares = np.take_along_axis(scores, chosen, 1)
    if spec.softmax_after_topk:
        shares = _softmax(shares)
    if spec.renormalise:
        shares /= shares.sum(1, keepdims=True) + LEAST_SUM
    return chosen, shares * np.float32(spec.scale)


def _best_groups(choice: Float32, spec: Moe) -> Float32:
    """The scores, minus infinity outside the best groups."""
    grouped = choice.reshape(choice.shape[0], spec.groups, -1)
    counted = 1 if spec.group_score == "best" else 2
    scores = np.sort(grouped, axis=2)[:, :, -counted:].sum(2)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : spec.top_groups]
    kept = np.full_like(grouped, -np.inf)
    np.put_along_axis(kept, best[:, :, None], np.take_along_axis(grouped, best[:, :, None], 1), 1)
    return kept.reshape(choice.shape)


def _softmax(scores: Float32) -> Float32:
    powers: Float32 = np.exp(scores - scores.max(1, keepdims=True))
    powers /= powers.sum(1, keepdims=True)
    return powers
