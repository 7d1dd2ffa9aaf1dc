"""A config made tiny keeps its switches, its kinds of blocks and what must divide what."""

import pytest
import transformers

from manyhands.engine.module_twin import HEADS, LEAST_BLOCKS, TOKENS, WIDTH, tiny


@pytest.mark.parametrize(("heads", "made"), [(32, HEADS), (8, HEADS // 2), (1, 1)])
def test_sizes_become_small_and_keep_their_kind(heads, made):
    large = {
        "num_hidden_layers": 80,
        "hidden_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": heads,
        "vocab_size": 128256,
        "eos_token_id": [128001, 2],
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"factor": 8, "rope_type": "linear"},
    }
    small = tiny(large)
    assert small["num_hidden_layers"] == LEAST_BLOCKS
    assert (small["hidden_size"], small["vocab_size"]) == (WIDTH, TOKENS)
    assert (small["num_attention_heads"], small["num_key_value_heads"]) == (HEADS, made)
    assert max(small["eos_token_id"]) < TOKENS
    for name in ("tie_word_embeddings", "rms_norm_eps", "rope_parameters"):
        assert small[name] == large[name]


def test_every_kind_of_block_is_kept_with_its_entries():
    kinds = ["a"] * 7 + ["b"] + ["a"] * 24
    small = tiny({"num_hidden_layers": 32, "layer_types": kinds, "other": list(range(32))})
    assert small["layer_types"] == kinds[:8]
    assert small["other"] == list(range(8))
    assert small["num_hidden_layers"] == 8


def test_what_is_tiny_stays_as_it_is():
    small = tiny(transformers.OlmoeConfig().to_dict())
    assert tiny(small) == small
