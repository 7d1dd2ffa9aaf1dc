"""Whether a model fits, on one device and on two like it: the same as placement would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.plan.cost import MEMORY_SHARE, Cost, fits, memory_bytes, span_s, weight_bytes
from manyhands.plan.fits import fit, prompt_tok_s
from small_swarms import device, model

COST = Cost(context=8)
TOKENS = 16


@given(st.integers(1, 6), st.integers(0, 200_000), st.booleans())
def test_one_more_device_never_makes_it_slower_and_fits_what_one_fits(blocks, memory, tied):
    spec, one = model(blocks, tied=tied), device(memory=memory)
    got = fit(spec, one, COST, tokens=TOKENS)
    assert (got.tok_s is not None) == fits(spec, spec.span, one, TOKENS, COST)
    if got.tok_s is not None:
        assert got.tok_s_with_one_more is not None
        assert got.tok_s_with_one_more >= got.tok_s
    assert (got.devices == 1) == (got.tok_s is not None)
    assert (got.devices <= 2) == (got.tok_s_with_one_more is not None)


@given(st.integers(1, 6), st.integers(0, 100_000), st.integers(0, 100_000))
def test_more_memory_never_loses_a_model(blocks, memory, more):
    spec = model(blocks)
    small = fit(spec, device(memory=memory), COST, tokens=TOKENS)
    large = fit(spec, device(memory=memory + more), COST, tokens=TOKENS)
    assert large.devices <= small.devices
    assert (large.tok_s or 0) >= (small.tok_s or 0)


def test_the_bytes_it_needs_are_weights_memory_and_workspace():
    spec = model(4)
    got = fit(spec, device(), COST, tokens=TOKENS)
    assert got.parameters == sum(layer.elements for layer in spec.layers)
    assert got.weight_bytes == weight_bytes(spec, spec.span, COST)
    held = memory_bytes(spec, spec.span, TOKENS, COST)
    assert got.weight_bytes < held < got.needed_bytes
    enough = fit(spec, device(memory=got.needed_bytes), COST, tokens=TOKENS)
    assert enough.tok_s == got.tok_s
    assert fit(spec, device(memory=int(0.99 * held)), COST, tokens=TOKENS).tok_s is None


def test_a_model_that_fits_answers_as_fast_as_its_layers_are_read():
    spec, one = model(4), device()
    got = fit(spec, one, COST, tokens=TOKENS)
    assert got.tok_s == pytest.approx(1 / span_s(spec, spec.span, one, COST))
    assert got.tok_s_with_one_more == got.tok_s
    assert got.reason.startswith("fits here")


def test_a_model_for_two_is_slower_by_the_links_and_says_where_it_is_cut():
    spec = model(4)
    needed = fit(spec, device(), COST, tokens=TOKENS).needed_bytes
    half = device(memory=int(0.7 * needed))
    got = fit(spec, half, COST, tokens=TOKENS)
    assert got.tok_s is None
    pure = 1 / span_s(spec, spec.span, half, COST)
    assert pure / (1 + 3 * COST.latency_s * pure) < got.tok_s_with_one_more < pure
    near = Cost(context=8, latency_s=0.0, rate_bytes_per_s=1e9)
    assert fit(spec, half, near, tokens=TOKENS).tok_s_with_one_more > got.tok_s_with_one_more
    assert got.reason.startswith("needs 0.0 GB free")
    assert "two hold it" in got.reason


def test_a_model_too_big_for_two_says_how_many_it_takes_at_least():
    spec = model(30)
    held = memory_bytes(spec, spec.span, TOKENS, COST)
    got = fit(spec, device(memory=int(held / MEMORY_SHARE / 4.5)), COST, tokens=TOKENS)
    assert (got.tok_s, got.tok_s_with_one_more, got.devices) == (None, None, 5)
    assert "at least 5 like this one" in got.reason


def test_a_device_that_does_nothing_holds_nothing():
    got = fit(model(2), device(read=0.0), COST, tokens=TOKENS)
    assert (got.tok_s, got.tok_s_with_one_more) == (None, None)


def test_a_prompt_is_read_in_steps_of_many_tokens():
    spec, one = model(4), device()
    many = Cost(tokens=32)
    assert prompt_tok_s(spec, one, many) == pytest.approx(32 / span_s(spec, spec.span, one, many))
    assert prompt_tok_s(spec, one, many) > prompt_tok_s(spec, one, Cost())
