"""What a swarm would do with a model, before anything is loaded: three predictions and why.

One answer's speed and its first token over the placement that `plan/placement` finds; the total of
many answers at once over the routes of `plan/throughput`. Knows nothing of measuring, of names or
of how it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.errors import ResourceError
from manyhands.plan.cost import (
    Cost,
    answer_bytes,
    hidden_bytes,
    link_between,
    link_s,
    memory_bytes,
    prompt_bytes,
    span_s,
)
from manyhands.plan.placement import ANYWHERE, Placement, place
from manyhands.plan.tensor_split import TensorSplit, tensor_split
from manyhands.plan.throughput import Throughput, throughput

PROMPT_TOKENS = 512
"""The first token is predicted behind a prompt so long, or of half the context if that is less."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted tokens a second of a model on a swarm.

    `answer_tok_s` is one session's decoding, `prompt_tok_s` the tokens of a prompt taken in,
    `first_token_s` the wait behind a prompt of `prompt_tokens`, `many` what all sessions get when
    there are enough of them. `alone_tok_s` is what the best single device would do, None where none
    holds it. `split` cuts every matrix, where that would be quicker: nothing here runs it.
    """

    placement: Placement
    answer_tok_s: float
    prompt_tok_s: float
    prompt_tokens: int
    first_token_s: float
    many: Throughput
    alone_tok_s: float | None
    split: TensorSplit | None
    needed_bytes: int

    @property
    def total_tok_s(self) -> float:
        """Of all sessions together."""
        return self.many.total_tok_s


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
    many = throughput(swarm, spec, owner, cost, tokens=tokens, within=within)
    split = tensor_split(swarm, spec, owner, cost, tokens=tokens)
    prompt = max(1, min(PROMPT_TOKENS, tokens // 2))
    reading = replace(cost, tokens=min(chunk, prompt), context=prompt // 2)
    stages_s = _stages_s(swarm, spec, placed, reading)
    hops_s = _hops_s(swarm, spec, owner, placed, reading)
    slowest_s = max(*stages_s, *hops_s[1:-1], 0.0)
    chunks = ceil(prompt / reading.tokens)
    return Forecast(
        placement=placed,
        answer_tok_s=1 / placed.step_s,
        prompt_tok_s=reading.tokens / slowest_s,
        prompt_tokens=prompt,
        first_token_s=sum(stages_s) + sum(hops_s) + (chunks - 1) * slowest_s,
        many=many,
        alone_tok_s=_alone_tok_s(swarm, spec, owner, cost, tokens),
        split=split if split is not None and split.step_s < placed.step_s else None,
        needed_bytes=memory_bytes(spec, spec.span, tokens, cost),
    )


def _alone_tok_s(
    swarm: Swarm, spec: ModelSpec, owner: PeerId, cost: Cost, tokens: int
) -> float | None:
    """One answer on the best of the devices that could hold all of it."""
    found = []
    for peer in sorted(swarm.peers):
        try:
            found.append(1 / place(swarm, spec, owner, cost, tokens=tokens, peers=(peer,)).step_s)
        except ResourceError:
            continue
    return max(found, default=None)


def _stages_s(swarm: Swarm, spec: ModelSpec, placed: Placement, cost: Cost) -> list[float]:
    """Seconds of one chunk at each stage."""
    return [
        span_s(spec, stage.span, swarm.peers[stage.peer].device, cost)
        for stage in placed.route.stages
    ]


def _hops_s(
    swarm: Swarm, spec: ModelSpec, owner: PeerId, placed: Placement, cost: Cost
) -> list[float]:
    """Seconds of one chunk on each link, from the owner round to it."""
    ends = (owner, *(stage.peer for stage in placed.route.stages), owner)
    inner = [hidden_bytes(spec, cost)] * (len(placed.route) - 1)
    sizes = (prompt_bytes(cost), *inner, answer_bytes())
    return [
        link_s(link_between(swarm, source, target, cost), size)
        for (source, target), size in zip(pairwise(ends), sizes, strict=True)
    ]
