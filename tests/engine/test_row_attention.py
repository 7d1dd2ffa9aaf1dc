"""Attention is numpy's, and a query's bits depend on the keys it sees alone."""

from itertools import product

import numpy as np
import pytest

from engine_cases import HAS_NUMBA
from manyhands.codec.weight_blocks import widened
from manyhands.domain.model_spec import Attention
from manyhands.engine import numpy_math
from manyhands.engine.compiled import new_crew
from manyhands.engine.row_attention import attend, kept
from ordinary import ordinary

FORMS = {
    "groups": Attention(4, 2, 32, 32, 0.2),
    "wide values": Attention(4, 4, 16, 80, 0.25),
    "window": Attention(4, 1, 64, 64, 0.125, window=37),
    "sinks": Attention(4, 2, 32, 48, 0.2, sinks=True),
    "odd width": Attention(4, 2, 24, 24, 0.2),
    "around": Attention(4, 2, 32, 32, 0.2, causal=False),
    "around, window": Attention(4, 4, 16, 16, 0.2, causal=False, window=11),
    "around, odd width": Attention(4, 4, 24, 24, 0.2, causal=False, window=11),
    "softcap": Attention(4, 2, 32, 32, 0.2, softcap=20.0),
}


@pytest.fixture(params=["compiled", "numpy"])
def crew(request):
    if request.param == "numpy":
        return None
    if not HAS_NUMBA:
        pytest.skip("numba is not installed")
    return new_crew(2)


@pytest.fixture(params=["float32", "bfloat16"])
def keep(request):
    """How keys and values are kept."""
    return kept if request.param == "bfloat16" else np.ascontiguousarray


def case(spec, position, tokens):
    """Queries, and keys and values as they lie in a memory that has room for more."""
    room = position + tokens + 9
    end = position + tokens
    return (
        2 * ordinary(tokens, spec.heads, spec.head_dim),
        ordinary(spec.kv_heads, room, spec.head_dim, seed=1)[:, :end],
        ordinary(spec.kv_heads, room, spec.v_head_dim, seed=2)[:, :end],
        ordinary(spec.heads, seed=3) if spec.sinks else None,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("position", "tokens"), [(0, 1), (0, 20), (500, 9), (300, 1)])
def test_it_is_what_numpy_computes(crew, keep, form, position, tokens):
    spec = FORMS[form]
    queries, keys, values, sinks = case(spec, position, tokens)
    got = attend(queries, keep(keys), keep(values), position, spec, sinks, crew)
    if keep is kept:
        keys, values = widened(kept(keys)), widened(kept(values))
    expected = numpy_math.attend(queries, keys, values, position, spec, sinks)
    np.testing.assert_allclose(got, expected, atol=5e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_querys_bits_do_not_depend_on_the_queries_beside_it(crew, keep, form):
    spec = FORMS[form]
    queries, keys, values, sinks = case(spec, 290, 32)
    keys, values = keep(keys), keep(values)
    together = attend(queries, keys, values, 290, spec, sinks, crew)
    for token in (0, 1, 7, 31):
        end = 290 + token + 1 if spec.causal else keys.shape[1]
        alone = attend(
            queries[token : token + 1],
            keys[:, :end],
            values[:, :end],
            290 + token,
            spec,
            sinks,
            crew,
        )
        np.testing.assert_array_equal(alone[0].view(np.int32), together[token].view(np.int32))


def test_scores_that_differ_by_far_give_the_best_keys_value_and_no_nan(crew):
    spec = Attention(1, 1, 16, 16, 1.0)
    keys, values = ordinary(1, 300, 16), ordinary(1, 300, 16, seed=1)
    query = 1e4 * keys[0, 200]
    got = attend(query[None, None], keys, values, 299, spec, None, crew)
    np.testing.assert_array_equal(got[0, 0], values[0, (keys[0] @ query).argmax()])


def test_a_key_or_a_query_that_is_no_number_is_not_hidden(crew, keep):
    spec = FORMS["groups"]
    queries, keys, values, _ = case(spec, 40, 3)
    keys[0, 17, 5], queries[1, 3, 2] = np.nan, np.nan
    got = attend(queries, keep(keys), keep(values), 40, spec, None, crew)
    is_nan = np.zeros(got.shape, bool)
    is_nan[:, :2], is_nan[1, 3] = True, True  # the first key's heads, and that query's
    np.testing.assert_array_equal(np.isnan(got), is_nan)


@pytest.mark.parametrize("unseen", [np.inf, -np.inf, np.nan])
def test_a_value_that_a_query_does_not_see_changes_no_bit_of_its_result(crew, keep, unseen):
    """Nor one at a key that only a query of the same tile sees."""
    spec = FORMS["groups"]
    for position, at in product((40, 253, 254, 255), (1, 2, 3)):  # 256 keys are a block
        queries, keys, values, _ = case(spec, position, 4)
        values[:, position + at] = unseen
        together = attend(queries, keep(keys), keep(values), position, spec, None, crew)
        for token in range(4):
            seen = keep(keys[:, : position + token + 1]), keep(values[:, : position + token + 1])
            alone = attend(queries[token : token + 1], *seen, position + token, spec, None, crew)
            np.testing.assert_array_equal(alone[0], together[token])
            assert np.isfinite(together[token]).all() == (token < at)
