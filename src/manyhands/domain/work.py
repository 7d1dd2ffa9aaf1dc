"""The work of a session: how to sample, the route, one step round it, and its result.

These are the forms of PROTOCOL, complete from the first day: what an engine or a role does not
serve yet is refused by name (NotServed), never ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal

from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span, is_cover
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.errors import BadSampling, ProtocolError

MOST_TOP_N = 2**16
"""Entries that a list on the wire may have."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; `temperature` 0 is greedy.

    Draws depend on (seed, sample, position). Whole numbers pass where floats are meant, numpy's
    numbers as plain ones. Raises BadSampling for a value of another type or outside its range.
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
        # numbers of any make (numpy's, say) become plain ones: the wire can send no others
        for name, below, rule in _WHOLES:
            object.__setattr__(self, name, _whole(name, getattr(self, name), below, rule))
        for name, is_good, rule in _REALS:
            object.__setattr__(self, name, _real(name, getattr(self, name), is_good, rule))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))


_WHOLES = (
    ("seed", 2**64, "a whole number in [0, 2**64)"),
    ("sample_index", 2**32, "a whole number in [0, 2**32)"),
    ("top_k", math.inf, "a whole number, 0 (off) or more"),
)
"""Field, what it must be below, and how that is told."""

_REALS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("temperature", lambda value: 0 <= value <= 100, "a number in [0, 100]"),
    ("top_p", lambda value: 0 < value <= 1, "a number in (0, 1]"),
    ("min_p", lambda value: 0 <= value <= 1, "a number in [0, 1]"),
    ("repetition_penalty", lambda value: 0 < value <= 100, "a number in (0, 100]"),
    ("presence_penalty", lambda value: -100 <= value <= 100, "a number in [-100, 100]"),
    ("frequency_penalty", lambda value: -100 <= value <= 100, "a number in [-100, 100]"),
)
"""Field, its range (NaN is in none), and how that is told."""


def _whole(name: str, value: object, below: float, rule: str) -> int:
    if not isinstance(value, bool) and isinstance(value, Integral):
        number = int(value)
        if 0 <= number < below:
            return number
    raise BadSampling(f"{name} is {value!r:.200}; it must be {rule}")


def _real(name: str, value: object, is_good: Callable[[float], bool], rule: str) -> float:
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:  # a whole number larger than every float
            number = math.nan
        if is_good(number):
            return number
    raise BadSampling(f"{name} is {value!r:.200}; it must be {rule}")


def _biases(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise BadSampling(
            f"logit_bias is {value!r:.200}; it must map token ids to numbers, as {{5: -1.5}}"
        )
    return {
        _whole("logit_bias token", token, math.inf, "a token id, a whole number of 0 or more"): (
            _real("logit_bias", bias, lambda number: number < math.inf, "a number or -inf")
        )
        for token, bias in value.items()
    }


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
    vector (or the classes' scores) of the whole step, whatever `rows` says. Raises BadSampling for
    a `top_n` that no result could carry.
    """

    rows: Literal["none", "last", "all"] = "last"
    token: bool = True
    logprob: bool = False
    top_n: int = 0
    logits: bool = False
    hidden: bool = False
    pooled: bool = False

    def __post_init__(self) -> None:
        rule = f"a whole number in [0, {MOST_TOP_N}]"
        object.__setattr__(self, "top_n", _whole("top_n", self.top_n, MOST_TOP_N + 1, rule))


@dataclass(frozen=True, slots=True)
class SessionOpen:
    """Owner -> each stage: hold memory for this session; `stage` is the receiver's place.

    A stage that has this session from an older epoch keeps its memory, cut at `position`, and says
    in `Ready` what it holds. `parent` forks another session's memory at `parent_position`. Of an
    encoder-decoder the prompt is what is read, in one step, and never sent again but whole.
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
    come in; at the first stage an image's patches, or None for a text. It stops after stage
    `through` (a replay ends at the stand-in). `next_token_ids` are targets for echo; `allowed` is
    one bit mask row per wanted row, over the vocabulary; `side` are named tensors a family ships
    beside the hidden states. `compute_s` grows by one entry a stage.
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
