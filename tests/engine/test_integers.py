"""A model in integers computes each row by itself, in both engines, compiled or not."""

import numpy as np
import pytest

from converted_cases import cosines, folders_in
from engine_cases import HAS_NUMBA, LOADS, session
from manyhands.domain.span import Span
from manyhands.engine import integers, numpy_blocks, torch_blocks
from manyhands.engine.engine import Chunk
from manyhands.errors import BadSetting
from ordinary import token_ids

CASES = ("llama-tied", "qwen3", "mistral-window", "llama-bias")
KINDS = (
    *("llama-tied", "bert", "modernbert", "mixtral", "qwen2_moe", "gpt_oss", "dots1"),
    *("deepseek_v2", "deepseek_v3-yarn"),
)
A = session(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return folders_in(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["compiled", "numpy"])
def kernels(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(integers, "new_crew", lambda threads: None)
    elif not HAS_NUMBA:
        pytest.skip("numba is not installed")


def loaded(engine, checkpoint, span=None, **options):
    span = checkpoint.spec.span if span is None else span
    return LOADS[engine](checkpoint.spec, span, checkpoint.read, kv_bytes=1 << 24, **options)


def bits(scores):
    return np.ascontiguousarray(scores).view(np.int32)


@pytest.mark.parametrize("engine", LOADS)
@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("case", CASES)
def test_a_text_has_the_same_bits_however_it_is_cut(folders, kernels, engine, case, form):
    _, checkpoint = folders(case, form)
    model = loaded(engine, checkpoint, threads=2)
    text = token_ids(70)
    whole = bits(model.forward(text, None).scores)
    for chunk in (1, 8, 33):
        model.open(A, 128)
        for first in range(0, len(text), chunk):
            some = text[first : first + chunk]
            out = model.step([Chunk(A, first, some, None, tuple(range(len(some))))])[0]
            np.testing.assert_array_equal(bits(out.scores), whole[first : first + len(some)])
        model.close(A)


@pytest.mark.parametrize("engine", LOADS)
@pytest.mark.parametrize("others", [0, 1, 7, 31, 511])
@pytest.mark.parametrize("case", KINDS)
def test_a_row_has_the_same_bits_beside_any_number_of_others(folders, case, engine, others):
    _, checkpoint = folders(case, "int8")
    model = loaded(engine, checkpoint, threads=2)
    text = token_ids(9)
    expected = bits(model.forward(text, None).hidden[-1])
    chunks = [Chunk(A, 0, text, None, (8,))]
    model.open(A, 128)
    left, number = others, 2
    while left > 0:
        rows = min(left, 200)
        model.open(session(number), 256)
        chunks.append(Chunk(session(number), 0, token_ids(rows, number), None, (0,)))
        left, number = left - rows, number + 1
    for order in (chunks, chunks[::-1]):
        outs = model.step(order)
        np.testing.assert_array_equal(bits(outs[order.index(chunks[0])].hidden[0]), expected)


@pytest.mark.parametrize("engine", LOADS)
def test_three_stages_give_the_bits_of_one(folders, engine):
    _, checkpoint = folders("qwen3", "int8")
    text, hidden = token_ids(20), None
    whole = loaded(engine, checkpoint).forward(text, None).scores
    for cut in (Span(0, 3), Span(3, 6), Span(6, 8)):
        out = loaded(engine, checkpoint, cut).forward(text, hidden)
        hidden = out.hidden
    np.testing.assert_array_equal(bits(out.scores), bits(whole))


@pytest.mark.parametrize("case", CASES)
def test_the_model_still_means_the_same(folders, case):
    """Tiny random models are all noise, which integers add to; the plain one stays nearest."""
    source, checkpoint = folders(case, "int8")
    text = token_ids(60)
    plain = loaded("numpy", source).forward(text, None).scores
    for engine in LOADS:
        got = loaded(engine, checkpoint).forward(text, None).scores
        cosine = cosines(got, plain)
        assert cosine.min() > 0.95
        assert cosine.mean() > 0.99


def test_memory_is_that_of_the_format(folders):
    source, checkpoint = folders("llama-tied", "int8")
    for engine in LOADS:
        held = loaded(engine, checkpoint).weight_bytes
        assert held == checkpoint.stored_bytes(checkpoint.spec.span)
        assert held < 0.28 * source.stored_bytes(source.spec.span)


def test_the_profile_says_what_is_multiplied(folders):
    for form in ("int8", "int4"):
        for made in (
            numpy_blocks.profile("w", form, "fp32"),
            torch_blocks.profile("w", form, "fp32", "fp32"),
        ):
            assert made.row_invariant
            assert made.weight_format == form
            assert made.arithmetic.startswith(f"{form} x int8 -> int32")
    assert not numpy_blocks.profile("w", "int8", "fp32").allows(
        numpy_blocks.profile("w", "int4", "fp32").kernels
    )


def test_a_dtype_beside_integers_is_refused(folders):
    _, checkpoint = folders("qwen3", "int8")
    with pytest.raises(BadSetting, match="multiplied in integers"):
        loaded("torch", checkpoint, dtype="bf16")
