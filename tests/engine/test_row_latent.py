"""Latent attention beside integers is latent attention, and a query's bits are its own."""

import numpy as np
import pytest

from engine_cases import HAS_NUMBA
from manyhands.domain.latent import absorbed
from manyhands.domain.model_spec import Attention, Latent
from manyhands.engine import numpy_latent
from manyhands.engine.compiled import new_crew
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.integers import Integers
from manyhands.engine.row_latent import attend_latent_by_rows
from ordinary import ordinary

LATENTS = {
    "for the kernel": (Latent(None, 32, 24, 16), 20),
    "odd widths": (Latent(None, 18, 12, 6), 10),
}


@pytest.fixture(params=["compiled", "numpy"])
def whole(request):
    if request.param == "numpy":
        return Integers(None)
    if not HAS_NUMBA:
        pytest.skip("numba is not installed")
    return Integers(new_crew(2))


@pytest.fixture(params=LATENTS)
def weights(request):
    latent, values = LATENTS[request.param]
    width = latent.nope + latent.rope
    spec = Attention(4, 4, width, values, width**-0.5, latent=latent)
    keys_up = ordinary(4, latent.nope, latent.kv_rank, seed=1)
    values_up = ordinary(4, values, latent.kv_rank, seed=2)
    return LatentWeights(spec, latent, absorbed(spec, latent), None, keys_up, values_up)


def case(weights, tokens, known):
    latent = weights.latent
    return (
        ordinary(tokens, 4, latent.nope + latent.rope, seed=3),
        ordinary(known + 9, latent.kv_rank + latent.rope, seed=4)[:known],
    )


@pytest.mark.parametrize(("tokens", "known"), [(1, 1), (1, 300), (30, 30), (7, 270)])
def test_it_is_what_the_float_engine_computes_either_way(whole, weights, tokens, known):
    queries, latents = case(weights, tokens, known)
    got = attend_latent_by_rows(whole, queries, latents, weights)
    for way in (numpy_latent.attend_absorbed, numpy_latent.attend_expanded):
        expected = way(queries, latents, known - tokens, weights)
        np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


def test_a_querys_bits_do_not_depend_on_the_queries_beside_it(whole, weights):
    queries, latents = case(weights, 32, 290)
    together = attend_latent_by_rows(whole, queries, latents, weights)
    for token in (0, 1, 7, 31):
        seen = latents[: 258 + token + 1]
        alone = attend_latent_by_rows(whole, queries[token : token + 1], seen, weights)
        np.testing.assert_array_equal(alone[0].view(np.int32), together[token].view(np.int32))
