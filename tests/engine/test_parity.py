"""transformers == one engine == three engines in a row, for every family and every variant."""

import numpy as np
import pytest
import torch

import tiny
from engine_cases import LOADS, Stages, session
from manyhands.store.checkpoint import Checkpoint

TOLERANCE = 1e-4
A, B, C = session(1), session(2), session(3)


def tokens(count, seed=0):
    return [3 + (7 * i * i + 31 * seed) % 150 for i in range(count)]


CASES = [
    pytest.param(case, marks=[pytest.mark.slow] if case in tiny.SLOW else [])
    for case in tiny.SPEAKERS
]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(spec, weights, scores): the model for us, and the oracle for tokens."""
    folder = tiny.make(request.param, tmp_path_factory.mktemp("model"))
    oracle = tiny.oracle(folder)
    checkpoint = Checkpoint.open(folder)
    checkpoint.check()
    known = {}

    def scores(ids):
        if tuple(ids) not in known:
            with torch.inference_mode():
                found = oracle(torch.tensor([ids]), use_cache=False).logits[0]
            known[tuple(ids)] = found.numpy()
        return known[tuple(ids)]

    return checkpoint.spec, checkpoint.read, scores


@pytest.fixture(scope="module", params=LOADS)
def models(request, case):
    spec, weights, scores = case
    load = LOADS[request.param]
    blocks = len(spec.layers) - 2
    cuts = (1 + blocks // 3, 1 + 2 * blocks // 3)
    return Stages(load, spec, weights, ()), Stages(load, spec, weights, cuts), scores


def assert_near(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def test_a_whole_sequence_is_that_of_transformers(models):
    whole, three, scores = models
    for ids in (tokens(48), tokens(5, 1), tokens(1)):
        assert_near(whole.forward(ids), scores(ids))
        assert_near(three.forward(ids), scores(ids))


def test_prefill_and_single_steps_are_those_of_transformers(models):
    whole, three, scores = models
    ids = tokens(48)
    expected = scores(ids)
    for stages, chunks in ((whole, (16,)), (three, (5, 1, 10)), (three, (1, 15))):
        stages.open(A, 64)
        position = 0
        for count in (*chunks, *[1] * 32):
            ours = stages.step((A, position, ids[position : position + count]))[0]
            assert_near(ours, expected[position : position + count])
            position += count
        for engine in stages.engines:
            engine.close(A)


def test_memory_that_was_cut_is_as_if_the_tokens_had_never_come(models):
    _, three, scores = models
    ids = tokens(30)
    other = [*ids[:12], *tokens(20, 3)]
    expected = scores(other)
    three.open(A, 64)
    three.step((A, 0, ids))
    # A step at an earlier position cuts by itself; so does truncate.
    assert_near(three.step((A, 12, other[12:20]))[0], expected[12:20])
    for engine in three.engines:
        engine.truncate(A, 14)
    assert_near(three.step((A, 14, other[14:]))[0], expected[14:])
    for engine in three.engines:
        engine.close(A)


def test_sessions_in_one_batch_do_not_see_each_other(models):
    _, three, scores = models
    texts = {A: tokens(40, 1), B: tokens(33, 2), C: tokens(26, 4)}
    for name in texts:
        three.open(name, 64)
    three.step((A, 0, texts[A][:20]), (B, 0, texts[B][:3]))
    parts = ((A, 20, texts[A][20:]), (B, 3, texts[B][3:4]), (C, 0, texts[C]))
    for (name, position, given), ours in zip(parts, three.step(*parts), strict=True):
        assert_near(ours, scores(texts[name])[position : position + len(given)])
    for name in texts:
        for engine in three.engines:
            engine.close(name)


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("variant", ["phi3-longrope", "phi3-partial"])
def test_a_session_within_the_first_context_has_the_short_frequencies(variant, load, tmp_path):
    """Longer ones are in the cases above: their sessions are opened for 64 tokens."""
    checkpoint = Checkpoint.open(tiny.make(variant, tmp_path))
    stages = Stages(load, checkpoint.spec, checkpoint.read, (2, 5))
    ids = tokens(24)
    with torch.inference_mode():
        oracle = tiny.oracle(tmp_path)
        short = oracle(torch.tensor([ids]), use_cache=False).logits[0].numpy()
        beyond = oracle(torch.tensor([[*ids, 3]]), use_cache=False).logits[0].numpy()[:24]
    assert np.abs(short - beyond).max() > 0.1
    for name, limit, expected in ((A, 24, short), (B, 25, beyond)):
        stages.open(name, limit)
        ours = [stages.step((name, p, ids[p : p + 8]))[0] for p in (0, 8)]
        ours += [stages.step((name, p, ids[p : p + 1]))[0] for p in range(16, 24)]
        assert_near(np.concatenate(ours), expected)
