"""Cost: the arithmetic of seconds and bytes, against figures worked out by hand."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.device import Device, Link
from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    Latent,
    LayerSpec,
    Mlp,
    ModelSpec,
    ModuleSpec,
    Moe,
    TensorSource,
)
from manyhands.domain.sizes import span_elements
from manyhands.domain.span import Span
from manyhands.plan.cost import (
    FRAME_BYTES,
    Cost,
    answer_bytes,
    fits,
    hidden_bytes,
    kv_bytes,
    layer_work,
    link_between,
    link_s,
    load_s,
    memory_bytes,
    prompt_bytes,
    span_s,
    weight_bytes,
    work_s,
)
from small_swarms import NORM, block, device, model, peer_id, record, swarm

SPEC = model(2)
COST = Cost(bytes_per_weight=2, bytes_per_kv=4, bytes_per_hidden=2)
BLOCK = 8 * 8 + 4 * 8 + 4 * 8 + 8 * 8 + 3 * 8 * 32 + 2 * 8
"""Weights of one block of the tiny model."""


def test_decoding_reads_every_weight_of_a_block_once_and_its_memory():
    read, flops = layer_work(SPEC.layers[1], replace(COST, context=9))
    keys = 9 + 1
    assert read == BLOCK * 2 + keys * (4 + 4) * 4
    assert flops == 2 * BLOCK + 2 * keys * 2 * 8


def test_a_chunk_reads_weights_once_but_multiplies_every_row():
    read, flops = layer_work(SPEC.layers[1], replace(COST, tokens=7))
    keys = 4
    assert read == BLOCK * 2 + keys * (4 + 4) * 4
    assert flops == 7 * (2 * BLOCK + 2 * keys * 2 * 8)


def test_attention_to_both_sides_looks_at_the_whole_step_and_reads_no_memory():
    def flops(window, causal):
        part = block(window=window).part
        part = replace(part, attention=replace(part.attention, causal=causal))
        layer = LayerSpec(part, {})
        read, flops = layer_work(layer, replace(COST, tokens=100))
        return read, flops

    (kept, one_way), (read, both) = flops(None, True), flops(None, False)
    assert (kept > 0, read) == (True, 0)
    assert both == one_way * 100 / 50.5
    assert flops(5, False)[1] == both * 9 / 100


def test_a_window_bounds_the_keys_looked_at():
    read, _ = layer_work(block(window=5), replace(COST, context=1000))
    assert read == BLOCK * 2 + 5 * (4 + 4) * 4


def test_an_embedding_is_looked_up_and_a_head_scores_one_row():
    embed, head = SPEC.layers[0], SPEC.layers[-1]
    assert layer_work(embed, replace(COST, tokens=3)) == (3 * 8 * 2, 0)
    assert layer_work(embed, replace(COST, tokens=1000)) == (64 * 8 * 2, 0)
    assert layer_work(head, replace(COST, tokens=3)) == layer_work(head, COST)
    assert layer_work(head, COST) == ((64 * 8 + 8) * 2, 2 * (64 * 8 + 8))


MIXTURE = LayerSpec(
    BlockSpec(
        NORM,
        Attention(2, 1, 4, 4, 1.0),
        Mlp("gated", "silu", 16),
        Moe(experts=8, top_k=2, scoring="softmax"),
    ),
    {
        "router": TensorSource(("r",), (8, 8)),
        "experts.up": TensorSource(("u",), (8, 16, 8), "expert_stack"),
        "experts.up.bias": TensorSource(("b",), (8, 16), "expert_stack"),
    },
)
EXPERT = 16 * 8 + 16


def test_of_a_mixture_only_the_chosen_experts_are_read_and_worked_with():
    read, flops = layer_work(MIXTURE, COST)
    assert read == pytest.approx((64 + 2 * EXPERT) * 2 + 8 * 4)
    assert flops == pytest.approx(2 * (64 + 2 * EXPERT) + 2 * 2 * 8)
    read, flops = layer_work(MIXTURE, replace(COST, tokens=3))
    touched = 8 * (1 - (6 / 8) ** 3)  # of 8 experts, when 3 rows choose 2 each
    assert read == pytest.approx((64 + touched * EXPERT) * 2 + 2 * 8 * 4)
    assert flops == pytest.approx(3 * (2 * (64 + 2 * EXPERT) + 2 * 2 * 2 * 8))
    read, _ = layer_work(MIXTURE, replace(COST, tokens=100))
    assert read == pytest.approx((64 + 8 * EXPERT) * 2 + 50.5 * 8 * 4)


def test_all_experts_of_a_mixture_take_memory():
    spec = replace(SPEC, layers=(SPEC.layers[0], MIXTURE, SPEC.layers[-1]))
    assert span_elements(spec, Span(1, 2)) == 64 + 8 * EXPERT
    assert weight_bytes(spec, Span(1, 2), COST) == 2 * (64 + 8 * EXPERT)


def test_latent_attention_reads_its_compressed_memory():
    attention = Attention(2, 2, 8, 4, 1.0, latent=Latent(None, 3, 4, 2))
    layer = LayerSpec(BlockSpec(NORM, attention, Mlp("gated", "silu", 1)), {})
    read, flops = layer_work(layer, replace(COST, context=9))
    assert read == 10 * (3 + 2) * 4
    assert flops == 2 * 2 * 10 * (3 + 3 + 2)  # absorbed: scores over 5 numbers, values over 3


def test_many_rows_of_latent_attention_count_as_expanded():
    attention = Attention(2, 2, 6, 4, 1.0, latent=Latent(None, 64, 4, 2))
    layer = LayerSpec(BlockSpec(NORM, attention, Mlp("gated", "silu", 1)), {})
    flops = layer_work(layer, replace(COST, tokens=99))[1]
    assert flops == pytest.approx(
        99 * 2 * 2 * 50 * (6 + 4)
    )  # its own latents are the weights' work
    flops = layer_work(layer, replace(COST, tokens=99, context=1))[1]
    assert flops == pytest.approx(2 * 2 * (99 * 51 * (6 + 4) + 1 * 64 * (4 + 4)))


def test_a_layer_takes_the_longer_of_reading_and_multiplying_and_the_fixed_time():
    assert work_s((100.0, 10.0), Device("cpu", 1, 10.0, 10.0, 0.5)) == 10.5
    assert work_s((10.0, 1000.0), Device("cpu", 1, 10.0, 10.0, 0.5)) == 100.5


def test_a_device_or_link_or_disk_of_rate_zero_takes_for_ever():
    assert work_s((1.0, 1.0), device(0.0)) == inf
    assert work_s((1.0, 1.0), device(1.0, 0.0)) == inf
    assert link_s(Link(peer_id(1), peer_id(2), 0.1, 0.0), 1) == inf
    assert load_s(SPEC, SPEC.span, 0.0, COST) == inf


@given(st.integers(1, 3))
def test_the_seconds_of_a_span_are_those_of_its_parts(middle):
    parts = (Span(0, middle), Span(middle, 4))
    assert span_s(SPEC, SPEC.span, device(), COST) == pytest.approx(
        sum(span_s(SPEC, part, device(), COST) for part in parts)
    )


def test_bytes_of_weights_memory_and_loading():
    assert weight_bytes(SPEC, Span(1, 3), COST) == 2 * BLOCK * 2
    assert weight_bytes(SPEC, Span(1, 3), replace(COST, bytes_per_weight=0.5)) == BLOCK
    assert kv_bytes(SPEC, SPEC.span, 10, COST) == 2 * 10 * (4 + 4) * 4
    assert memory_bytes(SPEC, Span(1, 3), 10, COST) == 4 * BLOCK + 640
    assert load_s(SPEC, Span(1, 3), 100.0, COST) == 4 * BLOCK / 100


def test_ninety_percent_of_a_devices_memory_may_be_planned():
    size = memory_bytes(SPEC, SPEC.span, 10, COST)
    assert fits(SPEC, SPEC.span, device(memory=size * 10 // 9 + 2), 10, COST)
    assert not fits(SPEC, SPEC.span, device(memory=size * 10 // 9 - 2), 10, COST)


def test_what_is_sent_between_stages_is_far_more_than_what_the_owner_sends():
    step = replace(COST, tokens=5)
    assert hidden_bytes(SPEC, step) == FRAME_BYTES + 5 * (8 * 2 + 4)
    assert prompt_bytes(step) == FRAME_BYTES + 5 * 4
    assert answer_bytes() == FRAME_BYTES + 4


def test_a_link_is_the_measured_one_or_the_one_that_stands_for_it():
    measured = Link(peer_id(1), peer_id(2), 0.5, 100.0)
    found = swarm(record(1), record(2), links=(measured,))
    assert link_s(link_between(found, peer_id(1), peer_id(2), COST), 50) == 1.0
    back = link_between(found, peer_id(2), peer_id(1), COST)
    assert (back.latency_s, back.rate_bytes_per_s) == (COST.latency_s, COST.rate_bytes_per_s)
    assert link_s(link_between(found, peer_id(1), peer_id(1), COST), 10**9) == 0.0


def test_layers_that_a_library_computes_are_counted_by_what_they_read_and_keep():
    matrix, bias = TensorSource(("w",), (32, 8)), TensorSource(("b",), (8,))
    embed = LayerSpec(ModuleSpec("embed"), {"w": matrix, "b": bias})
    block = LayerSpec(ModuleSpec("block", kv=6, state=10), {"w": matrix})
    head = LayerSpec(ModuleSpec("head"), {"w": matrix})
    asked = replace(COST, tokens=3, context=9)
    keys = 9 + 2
    assert layer_work(embed, asked) == ((3 * 8 + 8) * 2, 2 * 8 * 3)  # rows looked up, never all
    assert layer_work(block, asked) == (
        256 * 2 + (keys * 6 + 10) * 4,
        2 * 256 * 3 + 2 * 3 * keys * 6,
    )
    assert layer_work(head, asked) == (256 * 2, 2 * 256)  # one row
    spec = ModelSpec("x", 8, 32, 64, (embed, block, head))
    assert kv_bytes(spec, spec.span, 5, COST) == (5 * 6 + 10) * 4
