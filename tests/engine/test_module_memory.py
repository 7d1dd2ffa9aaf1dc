"""A session's cache can be cut, copied and held for absent blocks; it goes on as if anew."""

import pytest
import torch
import transformers

import tiny
import universal_cases
from manyhands.engine.module_memory import KEPT_STATES, ModuleMemory, elements

TEXT = torch.tensor([[3 + (7 * place * place) % 150 for place in range(30)]])
KINDS = ("llama", "mistral-window", "qwen3-window", "mamba", "qwen3_next")
RECURRENT = ("mamba", "qwen3_next")


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    if request.param in tiny.ALL:
        return tiny.model(request.param)
    folder = universal_cases.make(request.param, tmp_path_factory.mktemp("model"))
    return universal_cases.oracle(folder)


def is_recurrent(model):
    return model.config.model_type in RECURRENT


@torch.inference_mode()
def says(model, memory, first, last):
    """Scores of tokens first … last - 1, and the memory grown with them."""
    name = "cache_params" if model.config.model_type == "mamba" else "past_key_values"
    more = {"use_cache": True, name: memory.cache}
    if name == "past_key_values":
        more["position_ids"] = torch.arange(first, last)[None]
    scores = model(input_ids=TEXT[:, first:last], **more).logits[0]
    memory.grown(last - first)
    return scores


def begun(model, *ends):
    """A memory of the first tokens, in steps that end there."""
    memory, first = ModuleMemory(model.config), 0
    for last in ends:
        says(model, memory, first, last)
        first = last
    return memory


def near(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_a_memory_that_was_cut_goes_on_like_one_that_never_was_longer(model):
    memory = begun(model, 18, 19, 20)
    expected = says(model, begun(model, 18, 19), 19, 20)
    assert memory.cut(19)
    assert memory.length == 19
    near(says(model, memory, 19, 20), expected)


def test_a_copy_goes_its_own_way_and_leaves_the_first_as_it_was(model):
    memory = begun(model, 18, 19)
    twin = memory.copy(18)
    assert (twin.length, memory.length) == (18, 19)
    near(says(model, twin, 18, 19), says(model, begun(model, 18), 18, 19))
    near(says(model, memory, 19, 20), says(model, begun(model, 18, 19), 19, 20))


def test_cutting_where_nothing_is_changes_nothing_and_cutting_all_begins_anew(model):
    memory = begun(model, 12)
    assert memory.cut(12)
    assert memory.cut(99)
    assert memory.length == 12
    assert memory.cut(0)
    assert memory.length == 0
    near(says(model, memory, 0, 12), says(model, ModuleMemory(model.config), 0, 12))


def test_a_recurrent_state_can_be_gone_back_to_for_some_steps_others_always(model):
    ends = list(range(12, 12 + KEPT_STATES + 2))
    memory = begun(model, *ends)
    assert memory.copy(12) is None or not is_recurrent(model)
    assert memory.cut(12) is not is_recurrent(model)
    if is_recurrent(model):  # what could not be cut is whole
        assert memory.length == ends[-1]
        assert memory.cut(ends[-KEPT_STATES])
        near(
            says(model, memory, ends[-KEPT_STATES], 20),
            says(model, begun(model, *ends[: 1 - KEPT_STATES]), ends[-KEPT_STATES], 20),
        )


def test_numbers_of_all_slots_are_counted():
    config = tiny.config("llama")
    memory = begun(tiny.model("llama"), 10)
    heads, size = config.num_key_value_heads, config.head_dim
    assert elements(memory.cache) == config.num_hidden_layers * 2 * heads * size * 10


def test_slots_of_absent_blocks_say_the_length_and_hold_next_to_nothing():
    """Only block 3 of the model is here: the others' slots are never written by it."""
    config = tiny.config("mistral-window")
    memory = ModuleMemory(config)
    heads, size = config.num_key_value_heads, config.head_dim
    for tokens in (11, 1):
        rows = torch.ones(1, heads, tokens, size)
        memory.cache.update(rows, rows, 3)
        memory.grown(tokens)
        assert [memory.cache.get_seq_length(place) for place in range(6)] == [memory.length] * 6
    # keys and values: of the block that is here, and one number a token for each other place
    assert elements(memory.cache) == 2 * 12 * (heads * size + 5)
    assert isinstance(memory.cache, transformers.DynamicCache)
    assert memory.cut(5)
    assert [memory.cache.get_seq_length(place) for place in range(6)] == [5] * 6
