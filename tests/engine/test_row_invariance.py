"""Every profile that says a row's bits do not depend on what is beside it is held to it.

And every profile that says they do has a tolerance to be held to.
"""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from engine_cases import LOADS, session
from manyhands.domain.profile import Profile
from manyhands.engine import numpy_blocks, torch_blocks
from manyhands.engine.engine import Chunk, Engine
from manyhands.sim.hash_engine import HashEngine, hash_profile, hash_spec
from manyhands.store.checkpoint import Checkpoint

OTHERS = (0, 1, 7, 31, 511)
TEXT = (5, 9, 2, 40, 11, 7)
HASH = hash_spec(3)

KINDS: dict[str, Profile] = {
    "hash": hash_profile("w"),
    "numpy": numpy_blocks.profile("w", "plain", "fp32"),
    "torch": torch_blocks.profile("w", "plain", "fp32", "fp32"),
    "torch bf16": torch_blocks.profile("w", "plain", "fp32", "bf16"),
}
"""Each profile that an engine of this house gives its results. A new one is named here."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(tiny.make("llama-tied", tmp_path_factory.mktemp("model")))


def engine_of(kind: str, checkpoint: Checkpoint) -> Engine:
    if kind == "hash":
        return HashEngine(HASH, HASH.span, kv_bytes=1 << 26)
    name, *dtype = kind.split()
    options = {"dtype": dtype[0]} if dtype else {}
    load = LOADS[name]
    return load(checkpoint.spec, checkpoint.spec.span, checkpoint.read, kv_bytes=1 << 28, **options)


def scores_beside(engine: Engine, others: int) -> np.ndarray:
    """Scores after TEXT and after one token more, in steps that others share."""
    names = [session(number) for number in range(others + 1)]
    for name in names:
        engine.open(name, 16)
    ours = []
    for position, tokens in ((0, TEXT), (len(TEXT), (3,))):
        batch = [
            Chunk(
                name, position, tokens if not n else tuple(t + n % 19 for t in tokens), None, (0,)
            )
            for n, name in enumerate(names)
        ]
        ours.append(engine.step(batch)[0].scores)
    for name in names:
        engine.close(name)
    return np.stack(ours)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_s_bits_are_the_same_beside_any_others_where_the_profile_says_so(kind, checkpoint):
    engine, profile = engine_of(kind, checkpoint), KINDS[kind]
    alone = scores_beside(engine, 0)
    for others in OTHERS:
        beside = scores_beside(engine, others)
        if profile.row_invariant:
            np.testing.assert_array_equal(beside, alone, err_msg=f"beside {others} others")
        else:
            np.testing.assert_allclose(beside, alone, atol=profile.tolerance)


def test_a_profile_claims_invariance_or_names_a_tolerance():
    for profile in KINDS.values():
        assert profile.row_invariant == (profile.tolerance == 0.0)
