"""What is derived of a model, never stored."""

from dataclasses import replace

from manyhands.domain.model_spec import (
    TensorSource,
)
from manyhands.domain.sizes import (
    span_kv_elements,
)
from manyhands.domain.span import Span
from small_swarms import block, model

BLOCK = 8 * 8 + 2 * 4 * 8 + 8 * 8 + 3 * 8 * 32 + 2 * 8
TABLE = 64 * 8


def test_a_tensor_counts_the_product_of_its_sides():
    assert TensorSource(("x",), (3, 4, 5)).elements == 60
    assert TensorSource(("x",), ()).elements == 1


def test_a_models_layers_are_embedding_blocks_and_head():
    spec = model(3)
    assert spec.span == Span(0, 5)
    assert len(spec.blocks) == 3
    assert [layer.elements for layer in spec.layers] == [TABLE, BLOCK, BLOCK, BLOCK, TABLE + 8]


def test_a_model_whose_attention_sees_both_ways_keeps_no_memory():
    spec = model(3)
    both = [
        replace(
            layer, part=replace(layer.part, attention=replace(layer.part.attention, causal=False))
        )
        for layer in spec.layers[1:-1]
    ]
    encoder = replace(spec, layers=(spec.layers[0], *both, spec.layers[-1]))
    assert (spec.keeps_memory, encoder.keeps_memory) == (True, False)
    assert span_kv_elements(encoder, encoder.span) == 0
    mixed = replace(spec, layers=(spec.layers[0], both[0], *spec.layers[2:]))
    assert mixed.keeps_memory


def test_the_digest_of_a_spec_changes_with_anything_in_it():
    spec = model(2)
    assert spec.digest() == model(2).digest()
    others = [
        replace(spec, family="other"),
        replace(spec, context=129),
        replace(spec, layers=spec.layers[:-1]),
        replace(spec, layers=(*spec.layers[:1], block(window=3), *spec.layers[2:])),
    ]
    assert len({spec.digest(), *(other.digest() for other in others)}) == 5


def test_a_source_knows_the_shape_of_the_tensor_it_is_cut_from():
    def source(layout, shape=(6, 5), first=0, last=0, of=0):
        return TensorSource(("a",), shape, layout, first, last, of)

    assert source("plain").stored_shape == (6, 5)
    assert source("transpose").stored_shape == (5, 6)
    assert source("rows", (6, 5), 2, 4, 8).stored_shape == (24, 5)  # three runs of two of eight
    assert source("columns", (6, 5), 2, 8, 8).stored_shape == (5, 8)
    assert source("rows", (6,), 2, 4, 8).stored_shape == (24,)
    for first, last, of in ((0, 4, 8), (4, 2, 8), (2, 4, 3), (-2, 0, 8), (0, 0, 0)):
        assert source("rows", (6, 5), first, last, of).stored_shape == (0, 5)
