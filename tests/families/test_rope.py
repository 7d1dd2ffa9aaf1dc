"""The rotary frequencies are those that transformers computes, for every rule and spelling."""

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from manyhands.errors import CheckpointError, NotServed
from manyhands.families.rope import rope

CONTEXT = 4096
RULES = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 1024},
    "longrope": {
        "short_factor": [1.0 + i / 8 for i in range(12)],
        "long_factor": [2.0 + i for i in range(12)],
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
}


def oracle(values, head_dim=24, context=CONTEXT, seq_len=None):
    config = transformers.LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=context,
        rope_parameters=dict(values),
    )
    kind = values["rope_type"]
    if kind == "default":
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
        frequencies, factor = rotary.compute_default_rope_parameters(config)
    else:
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, None, seq_len=seq_len)
    return frequencies.numpy(), factor


def same(found, expected):
    # Two units of float32's last place: transformers' own rounding differs from ours by that much.
    np.testing.assert_allclose(np.float32(found), expected, rtol=2.4e-7, atol=0)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("theta", [10000.0, 500000.0, 1000000])
def test_every_rule_gives_the_frequencies_of_transformers(kind, theta):
    values = {"rope_type": kind, "rope_theta": theta, **RULES[kind]}
    made = rope({"rope_parameters": values}, 24, CONTEXT)
    frequencies, factor = oracle(values)
    same(made.inv_freq, frequencies)
    assert made.attention_factor == pytest.approx(factor, rel=1e-7)
    assert made.interleaved is False


@pytest.mark.parametrize("kind", RULES)
def test_a_part_of_each_head_is_turned_with_the_frequencies_of_transformers(kind):
    """24 of 48; a missing factor is the family's own."""
    values = {"rope_type": kind, "rope_theta": 10000.0, **RULES[kind]}
    made = rope({"rope_parameters": values}, 48, CONTEXT, turned=0.5, interleaved=True)
    assert made == rope(
        {"rope_parameters": {**values, "partial_rotary_factor": 0.5}},
        48, CONTEXT, turned=0.25, interleaved=True,
    )  # fmt: skip
    assert made.interleaved
    if kind == "default":  # each family of transformers has its own: Llama's turns all
        same(made.inv_freq, 10000.0 ** -(np.arange(0, 24, 2) / 24))
    else:
        frequencies, factor = oracle({**values, "partial_rotary_factor": 0.5}, head_dim=48)
        same(made.inv_freq, frequencies)
        assert made.attention_factor == pytest.approx(factor, rel=1e-7)


def test_each_layer_type_may_have_a_rope_of_its_own():
    values = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    for kind, alone in values.items():
        made = rope({"rope_parameters": values}, 24, CONTEXT, layer_type=kind)
        assert made == rope({"rope_parameters": alone}, 24, CONTEXT)
    for kind in (None, "chunked_attention"):
        with pytest.raises(NotServed, match="layer type"):
            rope({"rope_parameters": values}, 24, CONTEXT, layer_type=kind)


def test_frequencies_beyond_the_original_context_are_those_of_transformers_longrope():
    values = {"rope_type": "longrope", "rope_theta": 10000.0, **RULES["longrope"]}
    made = rope({"rope_parameters": values}, 24, CONTEXT)
    assert made.switch_at == 1024
    same(made.inv_freq, oracle(values, seq_len=made.switch_at)[0])
    same(made.inv_freq_long, oracle(values, seq_len=made.switch_at + 1)[0])
    assert made.inv_freq != made.inv_freq_long


def test_the_dynamic_rule_is_the_default_one_up_to_the_context_in_transformers_too():
    values = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}
    made = rope({"rope_parameters": values}, 24, CONTEXT)
    same(made.inv_freq, oracle(values, seq_len=CONTEXT)[0])
    with pytest.raises(AssertionError):
        same(made.inv_freq, oracle(values, seq_len=CONTEXT + 1000)[0])


@pytest.mark.parametrize(
    "extra",
    [
        {"truncate": False},
        {"beta_fast": 16.0, "beta_slow": 2.0},
        {"beta_fast": 0, "beta_slow": None},
        {"attention_factor": 0.7},
        {"mscale": 0.5, "mscale_all_dim": 0.8},
        {"mscale": 0.0, "mscale_all_dim": 0.8},
        {"factor": 0.5},
        {"original_max_position_embeddings": 16},
    ],
)
@pytest.mark.parametrize("head_dim", [8, 64, 96, 128])
def test_every_dial_of_yarn_turns_as_in_transformers(extra, head_dim):
    values = {"rope_type": "yarn", "rope_theta": 10000.0, **RULES["yarn"], **extra}
    made = rope({"rope_parameters": values}, head_dim, CONTEXT)
    frequencies, factor = oracle(values, head_dim)
    np.testing.assert_allclose(np.float32(made.inv_freq), frequencies, rtol=2e-6)
    assert made.attention_factor == pytest.approx(factor, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    head_dim=st.sampled_from([2, 16, 24, 80, 128]),
    theta=st.floats(2.0, 1e8, width=32),
    factor=st.floats(1.0, 64.0, width=32),
    low=st.floats(0.5, 2.0, width=32),
    more=st.floats(0.5, 8.0, width=32),
    original=st.integers(16, 8192),
)
def test_llama3_blends_as_transformers_does_for_any_values(
    head_dim, theta, factor, low, more, original
):
    values = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": low + more,
        "original_max_position_embeddings": original,
    }
    made = rope({"rope_parameters": values}, head_dim, CONTEXT)
    np.testing.assert_allclose(np.float32(made.inv_freq), oracle(values, head_dim)[0], rtol=2e-5)


def test_the_older_spelling_means_the_same():
    new = {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}}
    old = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    newer = {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert rope(new, 16, 64) == rope(old, 16, 64) == rope(newer, 16, 64)
    assert rope({"rope_theta": 5e5, "rope_scaling": None}, 16, 64) == rope(
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 16, 64
    )
    assert rope({}, 16, 64) == rope({"rope_theta": 10000}, 16, 64)


def test_an_original_context_beside_the_rope_values_goes_first_as_in_transformers():
    inside = {"rope_type": "yarn", "rope_theta": 1e4, **RULES["yarn"]}
    beside = {"rope_parameters": inside, "original_max_position_embeddings": 256}
    inside_256 = {**inside, "original_max_position_embeddings": 256}
    assert rope(beside, 64, CONTEXT) == rope({"rope_parameters": inside_256}, 64, CONTEXT)
    assert rope(beside, 64, CONTEXT) != rope({"rope_parameters": inside}, 64, CONTEXT)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "linear", "factor": -1}, "factor"),
        ({"rope_type": "linear", "factor": float("nan")}, "factor"),
        ({"rope_type": "linear", "factor": "4"}, "factor"),
        ({"rope_type": "default", "rope_theta": 0}, "rope_theta"),
        ({"rope_type": "default", "rope_theta": True}, "rope_theta"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor"),
        ({**RULES["llama3"], "rope_type": "llama3", "high_freq_factor": 1.0}, "high_freq_factor"),
        ({**RULES["longrope"], "rope_type": "longrope", "short_factor": [1.0]}, "short_factor"),
        ({**RULES["yarn"], "rope_type": "yarn", "truncate": "no"}, "truncate"),
        ({"rope_type": 7}, "rope_type"),
    ],
)
def test_a_missing_or_absurd_rope_value_is_an_error_that_names_its_key(values, key):
    with pytest.raises(CheckpointError, match=key):
        rope({"rope_parameters": values}, 24, CONTEXT)


@pytest.mark.parametrize(
    "config",
    [
        {"rope_parameters": {"rope_type": "proportional"}},
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
        {"partial_rotary_factor": 0.5},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}},
    ],
)
def test_a_rope_that_is_not_served_is_refused_and_not_run_wrong(config):
    with pytest.raises(NotServed):
        rope(config, 24, CONTEXT)


def test_an_odd_head_cannot_be_rotated():
    with pytest.raises(CheckpointError, match="head_dim"):
        rope({}, 15, CONTEXT)
