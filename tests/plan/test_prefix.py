"""The longest beginning that another text shares, in whole pages, never the whole prompt."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.model_spec import LayerSpec, Rope
from manyhands.plan.prefix import SHARED_TOKENS, longest_beginning, may_share
from manyhands.sim.hash_engine import hash_spec

PROMPT = [number % 50 for number in range(3 * SHARED_TOKENS + 1)]


def test_the_text_that_agrees_for_longest_is_named():
    two = [*PROMPT[: 2 * SHARED_TOKENS], 77, 78]
    texts = {"none": [99], "one": PROMPT[:SHARED_TOKENS], "two": two, "also two": two}
    assert longest_beginning(PROMPT, texts.items()) == ("two", 2 * SHARED_TOKENS)


def test_less_than_a_page_is_not_worth_sharing_and_the_last_token_is_left_to_run():
    assert longest_beginning(PROMPT, [("near", PROMPT[: SHARED_TOKENS - 1])]) == (None, 0)
    whole = PROMPT[: 2 * SHARED_TOKENS]
    assert longest_beginning(whole, [("same", whole)]) == ("same", SHARED_TOKENS)
    assert longest_beginning([], [("any", PROMPT)]) == (None, 0)


@given(
    st.lists(st.integers(0, 1), max_size=300),
    st.lists(st.lists(st.integers(0, 1), max_size=300), max_size=4),
)
def test_what_is_shared_is_the_same_and_nobody_shares_more(prompt, texts):
    prompt, texts = [0] * 130 + prompt, [[0] * 130 + text for text in texts]
    name, count = longest_beginning(prompt, enumerate(texts))
    assert count % SHARED_TOKENS == 0
    assert count < len(prompt)
    if name is not None:
        assert texts[name][:count] == prompt[:count]
    more = count + SHARED_TOKENS
    assert more >= len(prompt) or all(text[:more] != prompt[:more] for text in texts)


def test_no_beginning_is_shared_across_a_change_of_rotary_frequencies():
    spec = hash_spec(1)
    assert may_share(spec, 10, 10_000)
    block = spec.layers[1].part
    rope = Rope((1.0,), inv_freq_long=(0.5,), switch_at=100)
    turned = replace(block, attention=replace(block.attention, rope=rope))
    layers = (spec.layers[0], LayerSpec(turned, spec.layers[1].tensors), spec.layers[2])
    switching = replace(spec, layers=layers)
    assert may_share(switching, 50, 100)
    assert may_share(switching, 101, 500)
    assert not may_share(switching, 100, 101)


def test_nothing_is_shared_of_a_model_that_keeps_no_memory():
    assert not may_share(hash_spec(1, causal=False), 10, 10)


def test_nothing_is_shared_of_a_text_that_is_read_as_a_whole():
    assert not may_share(replace(hash_spec(1), source=10), 10, 10)
