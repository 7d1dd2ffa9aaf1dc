"""What options mean: sizes and spans as people write them, and what fits, told before loading."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.cli.words import (
    PLANNED_TOKENS,
    as_size,
    check_fits,
    check_public_port,
    cost_of,
    device_here,
    engine_for,
    planned_tokens,
    read_duration,
    read_size,
    read_span,
)
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.errors import ResourceError, UserError
from manyhands.node.model import Model
from manyhands.plan.cost import fits
from manyhands.store.builtin import storyteller_folder
from node_cases import PROFILE
from small_swarms import MODEL, device, model

SPEC = model(4)
LAYERS = len(SPEC.layers)


def not_loaded(span):
    raise AssertionError("loaded")


MODEL_HERE = Model(MODEL, SPEC, PROFILE, not_loaded, (SPEC.span,))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000000", 10**6),
        ("4G", 4 << 30),
        ("4 GiB", 4 << 30),
        ("512mb", 512 * 10**6),
        ("4GB", 4 * 10**9),
        ("1.5 kB", 1500),
        ("512MiB", 512 << 20),
        (" 1.5k ", 1536),
        ("2T", 2 << 40),
        ("7b", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1e9", "4X", "4GG", "1,5G", "1i", "٤G", "9" * 400, "1 2"]
)
def test_what_is_no_size_is_the_users_error(text):
    with pytest.raises(UserError, match="write one as 4G"):
        read_size(text)


@given(st.text())
def test_any_text_is_a_size_or_the_users_error(text):
    with contextlib.suppress(UserError):
        assert read_size(text) >= 0


@given(st.integers(0, LAYERS - 1), st.data())
def test_spans_are_read_as_they_are_told(first, data):
    last = data.draw(st.integers(first + 1, LAYERS))
    assert read_span(f" {first}:{last} ", SPEC) == Span(first, last)


@pytest.mark.parametrize(
    "text", ["", "3", "2:2", "3:1", f"0:{LAYERS + 1}", "-1:2", ":2", "0:", "0-2", "9" * 5000 + ":1"]
)
def test_what_is_no_span_of_the_model_is_the_users_error(text):
    with pytest.raises(UserError, match=f"within 0:{LAYERS}"):
        read_span(text, SPEC)


def test_the_memory_named_is_the_most_and_never_more_than_there_is():
    assert device_here("1M").memory_bytes == 1 << 20
    assert device_here("9000T").memory_bytes < 9000 << 40
    assert device_here(None).memory_bytes > 1 << 20


def test_memory_is_planned_for_what_a_model_and_the_settings_allow():
    assert planned_tokens(MODEL_HERE, Settings()) == SPEC.context < PLANNED_TOKENS
    assert planned_tokens(MODEL_HERE, Settings(context_limit=7)) == 7


@given(st.integers(0, 60_000), st.integers(0, LAYERS - 1), st.data())
def test_what_does_not_fit_is_refused_with_what_would(memory, first, data):
    span = Span(first, data.draw(st.integers(first + 1, LAYERS)))
    here, settings = device(memory=memory), Settings()
    cost, tokens = cost_of(MODEL_HERE), planned_tokens(MODEL_HERE, settings)
    if fits(SPEC, span, here, tokens, cost):
        check_fits(MODEL_HERE, span, here, settings)
        return
    with pytest.raises(ResourceError) as told:
        check_fits(MODEL_HERE, span, here, settings)
    message = str(told.value)
    if fits(SPEC, Span(first, first + 1), here, tokens, cost):
        would = message.split("; layers ")[1].split(" ")[0]
        most = read_span(would, SPEC)
        assert most.first == first
        assert most.last < span.last
        check_fits(MODEL_HERE, most, here, settings)
    else:
        assert "not one layer would fit" in message


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (-(2**52), "0 bytes"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (2.5e6, "2.5 MB"),
        (3e12, "3000.0 GB"),
    ],
)
def test_sizes_are_told_as_people_read_them(size, text):
    assert as_size(size) == text


def test_our_own_small_model_runs_in_numpy_unless_something_else_is_asked(tmp_path):
    ours = storyteller_folder()
    assert engine_for(ours, "auto") == "numpy"
    assert engine_for(ours, "torch") == "torch"
    assert engine_for(ours, "auto", "bf16") == "auto"
    assert engine_for(tmp_path, "auto") == "auto"


def test_a_public_port_must_lead_to_a_port_that_is_named():
    check_public_port(None, None, "--port")
    check_public_port(4711, 7701, "--port")
    for unnamed in (None, 0):
        with pytest.raises(UserError, match="--peers-port"):
            check_public_port(4711, unnamed, "--peers-port")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), (" 2H ", 7200), ("7d", 604800)]
)
def test_a_time_is_a_number_and_a_letter(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "0s", "h", "1.5h", "-1h", "1w", "１h", "9999999s"])
def test_what_is_no_time_is_the_users_error(text):
    with pytest.raises(UserError, match="write one as"):
        read_duration(text)
