"""The model that swarm tests speak with: layers of hashes, one wrong entry changes the text."""

from dataclasses import replace

from manyhands.domain.ids import ModelId
from manyhands.node.model import Model
from manyhands.sim.hash_engine import HashEngine, hash_profile, hash_spec
from manyhands.sim.scenario import Ending, Scenario, truth

SPEC = hash_spec(6)
MODEL_ID = ModelId("ab" * 32)
MODEL = Model(
    id=MODEL_ID,
    spec=SPEC,
    profile=hash_profile(MODEL_ID),
    load=lambda span: HashEngine(SPEC, span),
    stored=(SPEC.span,),
)


def with_profile(**changes: object) -> Model:
    """The model with another numeric profile."""
    return replace(MODEL, profile=replace(MODEL.profile, **changes))


def must_be_whole(scenario: Scenario, ending: Ending, model: Model = MODEL) -> None:
    """All of the true text was spoken, and nothing is left in memory."""
    assert ending.error is None, ending.error
    assert ending.spoken == truth(scenario, model)
    assert ending.memories_left == 0
