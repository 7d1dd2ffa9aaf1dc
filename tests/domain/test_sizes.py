"""How many numbers spans of a model are, and keep."""

from dataclasses import replace

import pytest

from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    Latent,
    LayerSpec,
    Mlp,
    ModelSpec,
    ModuleSpec,
    TensorSource,
)
from manyhands.domain.sizes import (
    kv_elements_per_token,
    span_elements,
    span_kv_elements,
    span_state_elements,
)
from manyhands.domain.span import Span
from small_swarms import NORM, model

BLOCK = 8 * 8 + 2 * 4 * 8 + 8 * 8 + 3 * 8 * 32 + 2 * 8
TABLE = 64 * 8


def test_weights_of_a_span_are_the_sum_of_its_layers_and_a_tied_head_counts_once_only():
    plain, tied = model(2), model(2, tied=True)
    assert span_elements(plain, plain.span) == 2 * TABLE + 2 * BLOCK + 8
    assert span_elements(tied, tied.span) == TABLE + 2 * BLOCK + 8
    assert span_elements(tied, Span(1, 4)) == span_elements(plain, Span(1, 4))
    assert span_elements(tied, Span(0, 3)) == TABLE + 2 * BLOCK


@pytest.mark.parametrize(
    ("attention", "elements"),
    [
        (Attention(8, 2, 16, 16, 1.0), 2 * 32),
        (Attention(8, 2, 16, 24, 1.0), 2 * 40),
        (Attention(8, 2, 16, 16, 1.0, window=4), 2 * 32),
        (Attention(8, 2, 16, 16, 1.0, window=4, causal=False), 0),
        (Attention(8, 8, 16, 16, 1.0, latent=Latent(None, 32, 8, 4)), 36),
    ],
)
def test_what_a_block_keeps_for_a_token(attention, elements):
    part = BlockSpec(NORM, attention, Mlp("gated", "silu", 32))
    assert kv_elements_per_token(part) == elements


def test_only_blocks_keep_memory():
    spec = model(3)
    one = kv_elements_per_token(spec.blocks[0])
    assert span_kv_elements(spec, spec.span) == 3 * one
    assert span_kv_elements(spec, Span(0, 1)) == 0
    assert span_kv_elements(spec, Span(2, 5)) == 2 * one


def test_layers_that_a_library_computes_say_what_they_keep_and_share():
    one, two = TensorSource(("a",), (4, 4)), TensorSource(("b",), (4,))
    shared = replace(one, layout="tied")
    layers = (
        LayerSpec(ModuleSpec("embed"), {"a": one}),
        LayerSpec(ModuleSpec("block", kv=8, state=100), {"a": shared, "b": two}),
        LayerSpec(ModuleSpec("block", kv=2), {"a": shared}),
        LayerSpec(ModuleSpec("head"), {"a": shared}),
    )
    spec = ModelSpec("x", 4, 4, 4, layers, config="{}")
    assert span_kv_elements(spec, spec.span) == 10
    assert span_state_elements(spec, spec.span) == 100
    assert span_elements(spec, spec.span) == 20
    assert span_elements(spec, Span(1, 3)) == 20  # whoever lacks the first has one of the others
    assert replace(spec, config="{ }").digest() != spec.digest()
