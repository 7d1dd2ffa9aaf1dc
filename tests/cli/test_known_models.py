"""The well-known models are what was published: our families make the right sizes of them."""

import pytest

from manyhands.cli.known_models import KNOWN_MODELS
from manyhands.domain.sizes import span_elements, span_kv_elements
from manyhands.families.family import known_families

BY_NAME = {model.name: model for model in KNOWN_MODELS}


@pytest.mark.parametrize("model", KNOWN_MODELS, ids=lambda model: model.name)
def test_a_known_model_has_its_published_number_of_parameters(model):
    spec = model.spec()
    assert span_elements(spec, spec.span) == pytest.approx(model.parameters, rel=0.01)
    assert spec.family in known_families()
    assert spec.context >= 32768


def test_there_are_eight_of_them_smallest_first():
    sizes = [model.parameters for model in KNOWN_MODELS]
    assert len(BY_NAME) == len(sizes) == 8
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("Llama-3.1-8B", 65536), ("Qwen3-4B", 73728), ("Qwen2.5-0.5B", 6144)],
)
def test_a_known_model_remembers_the_published_numbers_a_token(name, numbers):
    spec = BY_NAME[name].spec()
    assert span_kv_elements(spec, spec.span) == numbers
