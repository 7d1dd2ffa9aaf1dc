"""What a swarm would do with a model, before anything is loaded: three predictions and why.

One answer's speed over the placement that `plan/placement` finds; a prompt's over the same; and the
total of many answers at once, over whole copies or over the stages, whichever gives more. Knows
nothing of measuring, of names or of how it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.errors import ResourceError
from manyhands.plan.cost import Cost, hidden_bytes, link_between, link_s, memory_bytes, span_s
from manyhands.plan.placement import ANYWHERE, Placement, place


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted tokens a second of a model on a swarm.

    `answer_tok_s` is one session's decoding, `prompt_tok_s` the tokens of a prompt taken in,
    `total_tok_s` all sessions' decoding when there are enough of them. `copies` are the peers that
    would each hold all of it, where that gives the most in total; else one row of stages does.
    `alone_tok_s` is what the best single device would do, None where none holds it.
    """

    placement: Placement
    answer_tok_s: float
    prompt_tok_s: float
    total_tok_s: float
    copies: tuple[PeerId, ...]
    alone_tok_s: float | None
    needed_bytes: int


def forecast(
    swarm: Swarm,
    spec: ModelSpec,
    owner: PeerId,
    cost: Cost,
    *,
    tokens: int,
    chunk: int = 128,
    within: Mapping[PeerId, Span] = ANYWHERE,
) -> Forecast:
    """Predict; `tokens` is what memory is planned for, `chunk` how many of a prompt go together.

    A peer in `within` computes nothing outside its span there.

    Raises ResourceError when the model fits nowhere, saying how much is missing.
    """
    placed = place(swarm, spec, owner, cost, tokens=tokens, within=within)
    alone = _alone(swarm, spec, owner, cost, tokens)
    copies = tuple(peer for peer, _ in alone)
    total_of_copies = sum(1 / step_s for _, step_s in alone)
    total_of_stages = 1 / max(placed.stage_s)
    best_alone_s = min((step_s for _, step_s in alone), default=None)
    return Forecast(
        placement=placed,
        answer_tok_s=1 / placed.step_s,
        prompt_tok_s=_prompt_tok_s(swarm, spec, placed, replace(cost, tokens=chunk)),
        total_tok_s=max(total_of_copies, total_of_stages),
        copies=copies if total_of_copies > total_of_stages else (),
        alone_tok_s=None if best_alone_s is None else 1 / best_alone_s,
        needed_bytes=memory_bytes(spec, spec.span, tokens, cost),
    )


def _alone(
    swarm: Swarm, spec: ModelSpec, owner: PeerId, cost: Cost, tokens: int
) -> Sequence[tuple[PeerId, float]]:
    """Who could hold all of it, and the seconds of a step there."""
    found = []
    for peer in sorted(swarm.peers):
        try:
            step_s = place(swarm, spec, owner, cost, tokens=tokens, peers=(peer,)).step_s
        except ResourceError:
            continue
        found.append((peer, step_s))
    return found


def _prompt_tok_s(swarm: Swarm, spec: ModelSpec, placed: Placement, cost: Cost) -> float:
    """Chunks follow each other, so the slowest stage or link decides."""
    stages = placed.route.stages
    stage_s = [span_s(spec, stage.span, swarm.peers[stage.peer].device, cost) for stage in stages]
    hops_s = [
        link_s(link_between(swarm, before.peer, after.peer, cost), hidden_bytes(spec, cost))
        for before, after in pairwise(stages)
    ]
    return cost.tokens / max(*stage_s, *hops_s, 0.0)
