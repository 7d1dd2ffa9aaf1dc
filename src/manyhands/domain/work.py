"""The work of a session: how to sample, the route, one step round it, and its result.

These are the forms of PROTOCOL, complete from the first day: what an engine or a role does not
serve yet is refused by name (NotServed), never ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span, is_cover
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.errors import BadSampling, ProtocolError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; `temperature` 0 is greedy.

    Draws depend on (seed, sample, position).
    Raises BadSampling for a value outside its range.
    """

    seed: int = 0
    sample_index: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def need(good: bool, name: str, value: object, rule: str) -> None:
            if not good:
                raise BadSampling(f"{name} is {value}; it must be {rule}")

        for name in ("temperature", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            need(math.isfinite(getattr(self, name)), name, getattr(self, name), "a finite number")
        need(0 <= self.seed < 2**64, "seed", self.seed, "in [0, 2**64)")
        need(0 <= self.sample_index < 2**32, "sample_index", self.sample_index, "in [0, 2**32)")
        need(0 <= self.temperature <= 100, "temperature", self.temperature, "in [0, 100]")
        need(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        need(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]")
        need(0 <= self.min_p <= 1, "min_p", self.min_p, "in [0, 1]")
        need(
            0 < self.repetition_penalty <= 100,
            "repetition_penalty",
            self.repetition_penalty,
            "in (0, 100]",
        )
        need(abs(self.presence_penalty) <= 100, "presence_penalty", self.presence_penalty, "±100")
        need(
            abs(self.frequency_penalty) <= 100, "frequency_penalty", self.frequency_penalty, "±100"
        )
        for token, bias in self.logit_bias.items():
            need(token >= 0, "logit_bias token", token, "a token id")
            need(not math.isnan(bias) and bias != math.inf, "logit_bias", bias, "a number or -inf")


@dataclass(frozen=True, slots=True)
class Stage:
    """A span at a peer within a route."""

    peer: PeerId
    span: Span


@dataclass(frozen=True, slots=True)
class Route:
    """Ordered stages that cover a model."""

    stages: tuple[Stage, ...]

    def __len__(self) -> int:
        return len(self.stages)

    def peers(self) -> tuple[PeerId, ...]:
        """Each peer of the route once, in order of first appearance."""
        return tuple(dict.fromkeys(stage.peer for stage in self.stages))


def check_place(route: Route, stage: int) -> None:
    """Raise ProtocolError unless `stage` is a place in `route`, whose stages touch end to end."""
    if not 0 <= stage < len(route):
        raise ProtocolError(f"stage {stage} of a route of {len(route)} stages")
    if not is_cover([each.span for each in route.stages], route.stages[-1].span.last):
        raise ProtocolError("a route whose stages do not touch end to end from layer 0 on")


@dataclass(frozen=True, slots=True)
class Want:
    """What the owner wants back, for no row, the last row or every row of a step.

    `top_n` likeliest tokens with log-probabilities; `logits` and `hidden` as tensors; `pooled` one
    vector of the whole step.
    """

    rows: Literal["none", "last", "all"] = "last"
    token: bool = True
    logprob: bool = False
    top_n: int = 0
    logits: bool = False
    hidden: bool = False
    pooled: bool = False


@dataclass(frozen=True, slots=True)
class SessionOpen:
    """Owner -> each stage: hold memory for this session; `stage` is the receiver's place.

    A stage that has this session from an older epoch keeps its memory, cut at `position`, and says
    in `Ready` what it holds. `parent` forks another session's memory at `parent_position`.
    """

    session: SessionId
    epoch: int
    owner: PeerId
    model: ModelId
    route: Route
    stage: int
    position: int
    profile: Profile
    context_limit: int
    sampling: Sampling
    prompt_length: int
    lease_s: float
    parent: SessionId | None = None
    parent_position: int = 0

    def __post_init__(self) -> None:
        check_place(self.route, self.stage)


@dataclass(frozen=True, slots=True)
class Step:
    """One chunk of tokens on its way round the ring, at the door of stage `stage`.

    Rows are positions position … position+len(token_ids)-1. `tensor` holds the hidden states that
    come in (None at the first stage). It stops after stage `through` (a replay ends at the
    stand-in). `next_token_ids` are targets for echo; `allowed` is one bit mask row per wanted row,
    over the vocabulary; `side` are named tensors a family ships beside the hidden states.
    `compute_s` grows by one entry a stage.
    """

    session: SessionId
    epoch: int
    sequence: int
    branch: int
    position: int
    token_ids: tuple[int, ...]
    stage: int
    through: int
    want: Want
    tensor: TensorFrame | None = None
    next_token_ids: tuple[int, ...] = ()
    allowed: TensorFrame | None = None
    side: Mapping[str, TensorFrame] = field(default_factory=dict)
    compute_s: tuple[float, ...] = ()
    deadline_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ProtocolError("a step without tokens; it must carry at least one")
        if not 0 <= self.stage <= self.through:
            raise ProtocolError(f"a step at stage {self.stage} that ends at stage {self.through}")


@dataclass(frozen=True, slots=True)
class Result:
    """The last stage's answer to a step, straight to the owner; one entry per wanted row.

    `top_ids` and `top_logprobs` hold `top_n` entries a row. `input_hash`, `output_hash` and
    `signature` are for receipts (empty until somebody asks for them).
    """

    session: SessionId
    epoch: int
    sequence: int
    branch: int
    position: int
    tokens: tuple[int, ...] = ()
    chosen_logprob: tuple[float, ...] = ()
    target_logprob: tuple[float, ...] = ()
    target_is_greedy: tuple[bool, ...] = ()
    top_ids: tuple[tuple[int, ...], ...] = ()
    top_logprobs: tuple[tuple[float, ...], ...] = ()
    tensor: TensorFrame | None = None
    compute_s: tuple[float, ...] = ()
    input_hash: str = ""
    output_hash: str = ""
    signature: str = ""
