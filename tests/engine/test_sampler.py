"""The sampler: distribution, filters against a slow reference, ties, and draws that never move."""

import math
import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from manyhands.domain.work import Sampling, Want
from manyhands.engine.sampler import _adjusted, _survivors, draw, gumbel
from manyhands.errors import BadSampling, ManyhandsError

TOKEN = Want()


def row(*values):
    return np.array(values, np.float32)


def token(scores, sampling, position=0, history=(), **rest):
    return draw(scores, sampling, position, history, TOKEN, **rest).token


def random_scores(seed, size=64, spread=2.0):
    chance = random.Random(seed)
    return np.array([chance.gauss(0, spread) for _ in range(size)], np.float32)


def softmax(scores):
    mass = np.exp(scores.astype(np.float64) - scores.max())
    return mass / mass.sum()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_draws_follow_the_softmax(temperature):
    scores, times = random_scores(1, 12, 1.0), 6000
    counts = np.zeros(12)
    for position in range(times):
        counts[token(scores, Sampling(seed=3, temperature=temperature), position)] += 1
    expected = softmax(scores / np.float32(temperature)) * times
    # 31.3 is passed by chance once in a thousand for 11 degrees of freedom; the seed is fixed.
    assert ((counts - expected) ** 2 / expected).sum() < 31.3


@pytest.mark.parametrize("change", [{"seed": 4}, {"seed": 3 + 2**32}, {"sample_index": 1}])
def test_another_seed_or_sample_draws_independently(change):
    scores, times = np.zeros(16, np.float32), 1600
    base, other = (
        Sampling(seed=3, temperature=1.0),
        Sampling(**{"seed": 3, **change}, temperature=1.0),
    )
    same = sum(token(scores, base, p) == token(scores, other, p) for p in range(times))
    assert 60 < same < 145  # one in sixteen, within four deviations


def test_greedy_takes_the_lower_of_equal_scores():
    assert token(row(1, 5, 5, 2), Sampling()) == 1


def test_top_k_among_equals_keeps_the_lower_ids():
    drawn = {
        token(np.zeros(8, np.float32), Sampling(temperature=1.0, top_k=3), p) for p in range(99)
    }
    assert drawn == {0, 1, 2}


def slow_survivors(scores, sampling):
    """The filters in plain Python, one after the other, over (score, id)."""
    left = sorted(((s, -i) for i, s in enumerate(scores)), reverse=True)
    if sampling.top_k:
        left = left[: sampling.top_k]
    total = sum(math.exp(s) for s, _ in left)
    kept, reached, edges = [], 0.0, []
    for s, i in left:
        if reached >= sampling.top_p * total:
            break
        kept.append((s, i))
        reached += math.exp(s)
        edges.append(reached / total)
    if sampling.top_p == 1:
        kept, edges = left, []
    near = any(abs(edge - sampling.top_p) < 1e-9 for edge in edges)
    if sampling.min_p:
        near = near or any(abs(s - math.log(sampling.min_p)) < 1e-9 for s, _ in kept)
        kept = [(s, i) for s, i in kept if s >= math.log(sampling.min_p)]
    return sorted(-i for _, i in kept), near


@settings(max_examples=300, deadline=None)
@given(
    scores=st.lists(st.integers(-40, 40), min_size=1, max_size=40),
    top_k=st.integers(0, 45),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 1.0)),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
)
def test_filters_keep_what_the_plain_reference_keeps(scores, top_k, top_p, min_p):
    work = np.array(scores, np.float64) / 7
    work -= work.max()
    sampling = Sampling(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)
    expected, near = slow_survivors(work.tolist(), sampling)
    assume(not near)  # on the very edge, the order of additions decides
    ids = _survivors(work, sampling)
    assert (list(range(len(scores))) if ids is None else ids.tolist()) == expected


def test_a_draw_under_filters_is_the_draw_of_the_survivors_alone():
    """Noise belongs to the token id: filters never reshuffle it."""
    scores = random_scores(5)
    for position in range(200):
        free = token(scores, Sampling(seed=1, temperature=1.0), position)
        cut = token(scores, Sampling(seed=1, temperature=1.0, top_k=10), position)
        if free in np.argsort(-scores)[:10]:
            assert cut == free


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), position=st.integers(0, 2**20), data=st.integers(0, 999))
def test_a_small_change_of_scores_moves_no_draw(seed, position, data):
    scores = random_scores(data, 200)
    nudged = scores + np.clip(random_scores(data + 1, 200, 5e-7), -1e-6, 1e-6)
    sampling = Sampling(seed=seed, temperature=0.9)
    one, two = token(scores, sampling, position), token(nudged, sampling, position)
    if one != two:  # allowed only where the two were as good as equal
        noisy = scores.astype(np.float64) / 0.9 + gumbel(sampling, position, None, 200)
        assert abs(noisy[one] - noisy[two]) < 1e-5


def test_the_order_of_calls_changes_nothing():
    rows = {p: random_scores(p) for p in range(20)}
    sampling = Sampling(seed=11, temperature=1.0, top_p=0.9)
    forward = {p: token(rows[p], sampling, p) for p in range(20)}
    backward = {p: token(rows[p], sampling, p) for p in reversed(range(20))}
    assert forward == backward
    assert len(set(forward.values())) > 5


def test_a_tiny_temperature_is_greedy_and_raises_no_warning():
    scores = random_scores(2)
    assert token(scores, Sampling(temperature=1e-300)) == scores.argmax()


def test_repetition_penalty_is_that_of_transformers():
    torch = pytest.importorskip("torch")
    from transformers import RepetitionPenaltyLogitsProcessor

    history = (3, 9, 9, 20)
    scores = random_scores(6)
    theirs = RepetitionPenaltyLogitsProcessor(1.7)(
        torch.tensor([history]), torch.tensor(scores[None])
    )[0].numpy()
    ours = _adjusted(scores, Sampling(repetition_penalty=1.7), history, 0, None)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_presence_and_frequency_count_generated_tokens_only():
    sampling = Sampling(presence_penalty=1.0, frequency_penalty=0.5)
    scores = row(5.0, 4.9, 4.0, 3.0)
    prompt = (0, 0, 0, 0)
    assert token(scores, sampling, 4, prompt, prompt_length=4) == 0
    assert token(scores, sampling, 5, (*prompt, 0), prompt_length=4) == 1
    assert token(scores, sampling, 6, (*prompt, 0, 1), prompt_length=4) == 2


def test_ids_beyond_the_vocabulary_in_the_history_are_no_error():
    assert token(row(2, 1), Sampling(repetition_penalty=2.0), history=(99, -1)) == 0


def test_mask_and_bias_decide_what_can_be_drawn():
    scores = random_scores(7, 6)
    mask = np.zeros(6, bool)
    mask[[1, 4]] = True
    for position in range(50):
        assert token(scores, Sampling(temperature=1.0), position, allowed=mask) in (1, 4)
    assert token(scores, Sampling(logit_bias={5: 100.0})) == 5
    assert token(scores, Sampling(logit_bias={int(scores.argmax()): -math.inf})) != scores.argmax()


def test_log_probabilities_are_those_of_the_raw_scores():
    scores = random_scores(8)
    sampling = Sampling(temperature=0.5, top_k=1, logit_bias={60: 100.0})
    drawn = draw(scores, sampling, 0, (), Want(logprob=True, top_n=4), target=5)
    log = np.log(softmax(scores))
    likeliest = np.argsort(-scores, kind="stable")[:4]
    assert drawn.token == 60
    assert drawn.logprob == pytest.approx(log[60])
    assert drawn.top_ids == tuple(likeliest)  # the drawn token is not forced in
    assert drawn.top_logprobs == pytest.approx(log[likeliest])
    assert drawn.target_logprob == pytest.approx(log[5])
    assert drawn.target_is_greedy == (likeliest[0] == 5)
    assert draw(scores, sampling, 0, (), Want(), target=int(likeliest[0])).target_is_greedy


def test_equal_scores_come_in_the_order_of_their_ids_among_the_top():
    drawn = draw(row(1, 3, 3, 2), Sampling(), 0, (), Want(top_n=3))
    assert drawn.top_ids == (1, 2, 3)


def test_nothing_unasked_is_computed():
    drawn = draw(random_scores(9), Sampling(), 0, (), Want(token=False))
    assert (drawn.token, drawn.logprob, drawn.top_ids, drawn.target_logprob) == (
        None,
        None,
        (),
        None,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_numbers_are_said_to_be_so(bad):
    with pytest.raises(ManyhandsError, match=r"position 7 hold (nan|inf)"):
        token(row(1, 2, bad, 4), Sampling(), 7)


def test_nothing_left_to_draw_is_a_typed_error():
    with pytest.raises(BadSampling, match="no token is left"):
        token(row(1, 2), Sampling(temperature=1.0), allowed=np.zeros(2, bool))
    with pytest.raises(BadSampling, match="no token is left"):
        token(row(1, 2), Sampling(logit_bias={0: -math.inf, 1: -math.inf}))


@pytest.mark.parametrize(
    ("sampling", "rest"),
    [
        (Sampling(logit_bias={2: 1.0}), {}),
        (Sampling(), {"target": 2}),
        (Sampling(), {"allowed": np.ones(3, bool)}),
    ],
)
def test_what_does_not_fit_the_vocabulary_is_refused(sampling, rest):
    with pytest.raises(BadSampling):
        token(row(1, 2), sampling, **rest)
