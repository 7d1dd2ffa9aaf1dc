"""Scenarios drawn from a seed, in two modes, and what each mode demands of their endings.

safety: any faults, anywhere, stand-ins or not: nothing untrue may be spoken, nothing may hang.
liveness: faults that leave somebody who can stand in: all of the text must be spoken.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling
from manyhands.errors import PeerError
from manyhands.net.memory import Path
from manyhands.node.model import Model
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.sim.scenario import FAULT_KINDS, Ending, Fault, Scenario, play, truth

Mode = Literal["safety", "liveness"]

SETTINGS = Settings(lease_s=5.0, recovery_deadline_s=60.0, chunk_tokens=16)
"""Short leases, so that little virtual time is spent idle; small chunks: long replays."""

PAUSE_S = SETTINGS.recovery_deadline_s + 3 * SETTINGS.stuck_after_s
"""Nobody may wait longer than this for the next token or an error."""


def scenario(seed: int, mode: Mode) -> Scenario:
    """The scenario of a seed: shape, links, sampling, drafts and faults all drawn from it."""
    chance = random.Random(seed)
    stages = chance.randint(1, 5)
    tokens = chance.choice((20, 40, 100))
    sampling = Sampling(
        seed=chance.getrandbits(32),
        temperature=chance.choice((0.0, 0.0, 5.0)),
        top_k=chance.choice((0, 8)),
        frequency_penalty=chance.choice((0.0, 0.0, 0.5)),
    )
    drawn = Scenario(
        seed=seed,
        stages=stages,
        tokens=tokens,
        prompt=tuple(chance.randrange(64) for _ in range(chance.choice((1, 4, 50)))),
        sampling=sampling,
        draft_tokens=chance.choice((0, 0, 3)),
        path=Path(
            latency_s=chance.choice((0.0001, 0.001, 0.02)),
            rate_bytes_per_s=chance.choice((1e6, 1e8)),
            loss=chance.choice((0.0, 0.0, 0.01)),
        ),
        settings=replace(SETTINGS, step_credits=chance.choice((1, 2, 64))),
    )
    if mode == "safety":
        drawn = replace(drawn, spares=chance.randint(0, 1), stages_can_load=chance.random() < 0.5)
        faults = [_fault(chance, stages, tokens) for _ in range(chance.randint(1, 5))]
    else:
        # one spare is never touched: whatever else is lost, it can hold the whole model
        drawn = replace(drawn, spares=1)
        faults = [_fault(chance, stages, tokens) for _ in range(chance.randint(1, 2))]
    return replace(drawn, faults=tuple(faults))


def _fault(chance: random.Random, stages: int, tokens: int) -> Fault:
    return Fault(
        kind=chance.choice(FAULT_KINDS),
        stage=chance.randrange(stages),
        at_token=chance.randrange(tokens),
        after_s=chance.uniform(0.0, 0.05),
        lasts_s=chance.choice((0.02, 0.5, 3.0, 10.0)),
    )


def breach(seed: int, mode: Mode, model: Model, rules: Rules = ALL_RULES) -> str:
    """Play the schedule of a seed; what it breaks, in words, or "" if nothing."""
    drawn = scenario(seed, mode)
    return judge(drawn, play(drawn, model, rules), truth(drawn, model), mode)


def judge(drawn: Scenario, ending: Ending, text: tuple[int, ...], mode: Mode) -> str:
    """What an ending breaks, in words, or "" if nothing."""
    if ending.spoken != text[: len(ending.spoken)]:
        at = next(
            i for i, pair in enumerate(zip(ending.spoken, text, strict=False)) if len({*pair}) > 1
        )
        return f"seed {drawn.seed}: token {at} is wrong"
    if ending.longest_pause_s > PAUSE_S:
        return f"seed {drawn.seed}: a pause of {ending.longest_pause_s:.1f} s"
    if ending.error is None and len(ending.spoken) < drawn.tokens:
        return f"seed {drawn.seed}: it ended early without an error"
    if ending.error is not None and not isinstance(ending.error, PeerError):
        return f"seed {drawn.seed}: {ending.error!r} is not a peer's error"
    if ending.error is not None and mode == "liveness":
        return f"seed {drawn.seed}: it could have gone on: {ending.error}"
    if ending.memories_left:
        return f"seed {drawn.seed}: {ending.memories_left} memories were never freed"
    return ""
