"""A converted model is laid out as our tables are, and its spec says all of it."""

import pytest

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.sizes import span_elements
from manyhands.domain.stored_parts import stored_parts
from manyhands.domain.weight_format import (
    blocks_of,
    bytes_per_number,
    converted,
    dtype_of,
    weight_format,
)
from manyhands.families.family import model_spec

CONFIG = {
    "model_type": "llama", "vocab_size": 320, "hidden_size": 70, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 32, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
}  # fmt: skip


def spec(**changes):
    return model_spec({**CONFIG, **changes})


def test_a_plain_model_has_no_format_and_its_own_names():
    assert weight_format(spec()) is None
    assert weight_format(converted(spec(), None)) is None
    assert converted(spec(), None).layers[1].tensors["q"] == TensorSource(("1.q",), (64, 70))


@pytest.mark.parametrize(("form", "codes"), [("int8", 96), ("int4", 48)])
def test_a_matrix_becomes_codes_and_scales_and_a_norm_stays(form, codes):
    made = converted(spec(), form)
    assert weight_format(made) == form
    source = made.layers[1].tensors["q"]
    assert blocks_of(source) == form
    parts = stored_parts(source)
    assert parts == (
        TensorSource(("1.q",), (4, 16 * codes)),
        TensorSource(("1.q.scales",), (4, 16 * 3)),
    )
    assert [dtype_of(source, part) for part in parts] == ["U8", "BF16"]
    norm = made.layers[1].tensors["attention_norm"]
    assert stored_parts(norm) == (norm,)
    assert dtype_of(norm, norm) is None


def test_the_ends_of_the_vocabulary_are_int8_even_where_blocks_are_int4():
    made = converted(spec(), "int4")
    assert blocks_of(made.layers[0].tensors["tokens"]) == "int8"
    assert blocks_of(made.layers[-1].tensors["head"]) == "int8"
    assert blocks_of(made.layers[1].tensors["down"]) == "int4"


@pytest.mark.parametrize("form", [None, "int8", "int4"])
def test_a_tied_head_stands_where_the_embedding_does_and_counts_once(form):
    made = converted(spec(tie_word_embeddings=True), form)
    head, tokens = made.layers[-1].tensors["head"], made.layers[0].tensors["tokens"]
    assert head.is_tied
    assert head.names == tokens.names
    assert span_elements(made, made.span) == span_elements(spec(), spec().span) - 320 * 70


def test_formats_are_told_apart_by_the_spec_and_cost_what_they_hold():
    plain, eight, four = spec(), converted(spec(), "int8"), converted(spec(), "int4")
    assert len({made.digest() for made in (plain, eight, four)}) == 3
    assert bytes_per_number(plain, 2.0) == 2.0
    assert 96 / 70 < bytes_per_number(eight, 2.0) < 102 / 70  # rows are padded to whole blocks
    assert 48 / 70 < bytes_per_number(four, 2.0) < bytes_per_number(eight, 2.0)
    assert 1.06 < bytes_per_number(converted(spec(hidden_size=64), "int8"), 2.0) < 1.08
