"""Every stage, every token, every kind of fault: the same text, or a typed error in time."""

from dataclasses import replace

import pytest

from hash_swarm import MODEL, must_be_whole
from manyhands.domain.work import Sampling
from manyhands.errors import NoStandIn, PeerError
from manyhands.node.model import Model
from manyhands.sim.scenario import FAULT_KINDS, Fault, FaultKind, Scenario, play, truth
from manyhands.sim.schedule import SETTINGS

STAGES, TOKENS = 3, 100
SAMPLED = Sampling(seed=7, temperature=5.0, top_k=16)


def scenario(kind: FaultKind, stage: int, token: int, *, spares: int = 1) -> Scenario:
    """Strikes at different moments of a step; every third text is sampled, every fourth drafted."""
    return Scenario(
        seed=token,
        stages=STAGES,
        spares=spares,
        stages_can_load=spares > 0,
        tokens=TOKENS,
        sampling=SAMPLED if token % 3 == 0 else Sampling(),
        draft_tokens=3 if token % 4 == 0 else 0,
        faults=(Fault(kind, stage, token, after_s=0.0007 * (token % 13)),),
        settings=SETTINGS,
    )


def check_with_stand_in(kind: FaultKind, stage: int, token: int) -> None:
    drawn = scenario(kind, stage, token)
    ending = play(drawn, MODEL)
    must_be_whole(drawn, ending)
    assert ending.longest_pause_s < 2.0


def check_without_stand_in(kind: FaultKind, stage: int, token: int) -> None:
    drawn = scenario(kind, stage, token, spares=0)
    ending = play(drawn, MODEL)
    text = truth(drawn, MODEL)
    assert ending.spoken == text[: len(ending.spoken)]
    assert ending.longest_pause_s < SETTINGS.recovery_deadline_s
    assert ending.memories_left == 0
    if kind == "kill":
        assert isinstance(ending.error, NoStandIn)
    elif ending.error is None:
        assert ending.spoken == text  # it came back, or nothing was lost
    else:
        assert isinstance(ending.error, PeerError)


@pytest.mark.parametrize("stage", range(STAGES))
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_at_some_tokens_changes_nothing(kind: FaultKind, stage: int) -> None:
    for token in range(stage, TOKENS, 17):
        check_with_stand_in(kind, stage, token)


@pytest.mark.parametrize("stage", range(STAGES))
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_without_a_stand_in_a_fault_at_some_tokens_ends_in_time(
    kind: FaultKind, stage: int
) -> None:
    for token in range(stage, TOKENS, 25):
        check_without_stand_in(kind, stage, token)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", range(STAGES))
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_at_any_token_changes_nothing(kind: FaultKind, stage: int) -> None:
    for token in range(TOKENS):
        check_with_stand_in(kind, stage, token)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", range(STAGES))
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_without_a_stand_in_a_fault_at_any_token_ends_in_time(kind: FaultKind, stage: int) -> None:
    for token in range(TOKENS):
        check_without_stand_in(kind, stage, token)


def test_a_model_that_lies_is_noticed_by_these_checks() -> None:
    """The checks compare with a truth computed apart: another model's text does not pass."""
    drawn = scenario("kill", 1, 50)
    other = Model(MODEL.id, MODEL.spec, MODEL.profile, _lying_load, MODEL.stored)
    with pytest.raises(AssertionError):
        must_be_whole(drawn, play(drawn, other))
    assert truth(drawn, MODEL) != truth(replace(drawn, prompt=(4, 3, 2, 1)), MODEL)


def _lying_load(span):
    engine = MODEL.load(span)
    run = engine._run

    def lie(memory, chunk):
        output = run(memory, chunk)
        if chunk.position == 60:
            output.hidden[...] += 1
        return output

    engine._run = lie
    return engine
