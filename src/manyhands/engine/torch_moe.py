"""MLPs and mixtures of them in torch: each expert runs once, over the rows that chose it.

N rows of all sessions of a batch, D width, E experts, K chosen a row. Routing is computed, and the
experts' rows are added up, in float32 whatever the rows are. Knows nothing of blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from manyhands.domain.model_spec import Moe
from manyhands.engine.expert_weights import MlpWeights, MoeWeights
from manyhands.engine.torch_linear import Linear
from manyhands.engine.torch_math import Apply, plainly
from manyhands.engine.torch_rows import activate

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

LEAST_SUM = 1e-20
"""Keeps a sum of weights that all are 0 from dividing by it."""


def feed(
    rows: Tensor,
    weights: MlpWeights[Linear] | MoeWeights[Tensor, Linear],
    apply: Apply = plainly,
    crew: Crew | None = None,
) -> Tensor:
    """What a block's MLP, or mixture of them, makes of rows [N, D]."""
    if isinstance(weights, MlpWeights):
        return weights.down(activate(crew, weights.mlp_in(rows), weights.spec, apply))
    wide = rows.float()
    chosen, shares = route(wide, weights, apply)
    out = torch.zeros_like(wide)
    if rows.shape[0] == 1:
        for expert, share in sorted(zip(chosen[0].tolist(), shares[0].tolist(), strict=True)):
            # not by `alpha`, which multiplies and adds in one rounding: many rows have two
            out.add_(feed(rows, weights.experts[expert], apply, crew).float() * share)
    else:
        _by_expert(rows, chosen, shares, weights, apply, crew, out)
    if weights.shared is not None:
        shared = feed(rows, weights.shared, apply, crew).float()
        if weights.shared_scale is not None:
            shared *= apply(torch.sigmoid, weights.shared_scale(wide))
        out += shared
    return out.to(rows.dtype)


def _by_expert(
    rows: Tensor,
    chosen: Tensor,
    shares: Tensor,
    weights: MoeWeights[Tensor, Linear],
    apply: Apply,
    crew: Crew | None,
    out: Tensor,
) -> None:
    """Add to `out` [N, D] what the chosen experts make of their rows."""
    flat = chosen.flatten()
    order = torch.argsort(flat, stable=True)
    whose, by_share = order // chosen.shape[1], shares.flatten()[order]
    first = 0
    for expert, count in enumerate(torch.bincount(flat, minlength=len(weights.experts)).tolist()):
        if count:
            last = first + count
            theirs = whose[first:last]
            made = feed(rows[theirs], weights.experts[expert], apply, crew).float()
            out.index_add_(0, theirs, made * by_share[first:last, None])
            first = last


def route(
    wide: Tensor, weights: MoeWeights[Tensor, Linear], apply: Apply = plainly
) -> tuple[Tensor, Tensor]:
    """The experts [N, K] of each row and how much each counts [N, K], from float32 rows."""
    spec = weights.spec
    scores = weights.router(wide)
    if not spec.softmax_after_topk:
        is_softmax = spec.scoring == "softmax"
        scores = scores.softmax(1) if is_softmax else apply(torch.sigmoid, scores)
    choice = scores if weights.correction is None else scores + weights.correction
    if spec.top_groups < spec.groups:
        choice = _best_groups(choice, spec)
    chosen = choice.topk(spec.top_k, dim=1).indices
    shares = scores.gather(1, chosen)
    if spec.softmax_after_topk:
        shares = shares.softmax(1)
    if spec.renormalise:
        shares = shares / (shares.sum(1, keepdim=True) + LEAST_SUM)
    return chosen, shares * spec.scale


def _best_groups(choice: Tensor, spec: Moe) -> Tensor:
    """The scores, minus infinity outside the best groups."""
    grouped = choice.view(choice.shape[0], spec.groups, -1)
    counted = 1 if spec.group_score == "best" else min(2, grouped.shape[2])
    best = grouped.topk(counted, dim=2).values.sum(2).topk(spec.top_groups, dim=1).indices
    is_out = torch.ones(grouped.shape[:2], dtype=torch.bool).scatter_(1, best, False)
    return grouped.masked_fill(is_out[:, :, None], -torch.inf).view(choice.shape)
