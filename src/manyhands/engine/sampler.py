"""Draws the next token from a row of scores: one numpy implementation for every engine.

A draw depends on the scores and (seed, sample, position) alone, never on timing or on what is drawn
beside it: Gumbel-max over the tokens that survive the filters, with noise from Philox keyed by
(seed; sample, position, token id). A change of the scores smaller than the gap between the best two
noisy scores changes nothing. Knows nothing of sessions, engines or texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.work import Sampling, Want
from manyhands.engine.philox import philox4x32, uniform
from manyhands.errors import BadSampling, ManyhandsError

Scores = NDArray[np.float32]
"""[V vocabulary], raw: before any filter, as the head gives them."""

_Work = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Draw:
    """One row's answer. What was not asked for is None or empty.

    `token` is None when `want.token` is False. Log-probabilities are of the raw scores' softmax;
    `top_ids` are the `top_n` likeliest, the drawn token is not forced into them.
    `target_is_greedy`: the target is the likeliest token of the raw scores.
    """

    token: int | None
    logprob: float | None = None
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()
    target_logprob: float | None = None
    target_is_greedy: bool | None = None


def draw(
    scores: Scores,
    sampling: Sampling,
    position: int,
    history: Sequence[int],
    want: Want,
    prompt_length: int = 0,
    allowed: NDArray[np.bool_] | None = None,
    target: int | None = None,
) -> Draw:
    """Draw the token that will stand at `position`, after `history` (all tokens before it).

    In this order: `allowed` [V], logit bias, repetition penalty (whole history, as transformers),
    presence and frequency penalties (history[prompt_length:], as OpenAI), temperature, top-k,
    top-p, min-p. Ties go to the lower id, in filters too, so top-k keeps exactly k.
    Raises BadSampling when no token is left or a bias, mask or target does not fit the vocabulary,
    ManyhandsError when the scores are not numbers.
    """
    greedy = int(scores.argmax())  # argmax stops at the first NaN, so this one look finds them all
    best = float(scores[greedy])
    if not best < np.inf:
        raise ManyhandsError(
            f"the scores at position {position} hold {best}: the model overflowed, or its weights "
            "are damaged; verify the checkpoint, or compute in fp32"
        )
    _check(scores, sampling, allowed, target)
    token: int | None = None
    if want.token:
        token = _choose(scores, greedy, sampling, position, history, prompt_length, allowed)
    if not (want.logprob or want.top_n or target is not None):
        return Draw(token)
    log_total = best + float(np.log(np.exp(scores.astype(np.float64) - best).sum()))
    top = _largest(scores, want.top_n)
    top = top[np.argsort(-scores[top], kind="stable")]
    return Draw(
        token=token,
        logprob=float(scores[token]) - log_total if want.logprob and token is not None else None,
        top_ids=tuple(int(i) for i in top),
        top_logprobs=tuple(float(scores[i]) - log_total for i in top),
        target_logprob=None if target is None else float(scores[target]) - log_total,
        target_is_greedy=None if target is None else target == greedy,
    )


def _check(
    scores: Scores, sampling: Sampling, allowed: NDArray[np.bool_] | None, target: int | None
) -> None:
    size = scores.shape[0]
    if allowed is not None and allowed.shape != scores.shape:
        raise BadSampling(f"the mask of allowed tokens has {allowed.shape[0]} bits, not {size}")
    if target is not None and not 0 <= target < size:
        raise BadSampling(f"target token {target} is outside the vocabulary of {size}")
    for token in sampling.logit_bias:
        if token >= size:
            raise BadSampling(f"logit_bias names token {token}; the vocabulary has {size}")


def _choose(
    scores: Scores,
    greedy: int,
    sampling: Sampling,
    position: int,
    history: Sequence[int],
    prompt_length: int,
    allowed: NDArray[np.bool_] | None,
) -> int:
    changed = _adjusted(scores, sampling, history, prompt_length, allowed)
    if sampling.temperature == 0 and changed is None:
        best, token = float(scores[greedy]), greedy
    else:
        work = scores.astype(np.float64) if changed is None else changed
        token = int(work.argmax())
        best = float(work[token])
    if best == -np.inf:
        raise BadSampling(
            f"no token is left to draw at position {position}: the mask and logit_bias forbid all "
            "of them; allow at least one"
        )
    if sampling.temperature == 0:
        return token
    with np.errstate(over="ignore"):  # a tiny temperature sends the others to -inf: that is meant
        work -= best
        work /= sampling.temperature
    ids = _survivors(work, sampling)
    if ids is None:
        work += gumbel(sampling, position, None, work.shape[0])
        return int(work.argmax())
    return int(ids[(work[ids] + gumbel(sampling, position, ids, work.shape[0])).argmax()])


def _adjusted(
    scores: Scores,
    sampling: Sampling,
    history: Sequence[int],
    prompt_length: int,
    allowed: NDArray[np.bool_] | None,
) -> _Work | None:
    """Scores after mask, bias and penalties; None when none of them is asked for."""
    repeats = sampling.repetition_penalty != 1
    counts = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
    if allowed is None and not sampling.logit_bias and not repeats and not counts:
        return None
    work = scores.astype(np.float64)
    if allowed is not None:
        work[~allowed] = -np.inf
    for token, bias in sampling.logit_bias.items():
        work[token] += bias
    if repeats:
        seen = np.unique(_in_vocabulary(history, work.shape[0]))
        old, penalty = work[seen], sampling.repetition_penalty
        work[seen] = np.where(old < 0, old * penalty, old / penalty)
    if counts:
        spoken = _in_vocabulary(history[prompt_length:], work.shape[0])
        seen, times = np.unique(spoken, return_counts=True)
        work[seen] -= sampling.presence_penalty + sampling.frequency_penalty * times
    return work


def _in_vocabulary(tokens: Sequence[int], size: int) -> NDArray[np.int64]:
    """Tokens that can be drawn at all; image places and the like have ids beyond the scores."""
    ids = np.asarray(tokens, dtype=np.int64)
    return ids[(ids >= 0) & (ids < size)]


def _survivors(work: _Work, sampling: Sampling) -> NDArray[np.intp] | None:
    """Ids, ascending, that pass top-k, top-p and min-p; None when all do. `work`'s maximum is 0."""
    ids: NDArray[np.intp] | None = None
    if 0 < sampling.top_k < work.shape[0]:
        ids = _largest(work, sampling.top_k)
        work = work[ids]
    if sampling.top_p < 1:
        kept = _nucleus(work, sampling.top_p)
        ids = kept if ids is None else ids[kept]
        work = work[kept]
    if sampling.min_p > 0:
        kept = np.flatnonzero(work >= np.log(sampling.min_p))
        ids = kept if ids is None else ids[kept]
    return ids


def _nucleus(work: _Work, top_p: float) -> NDArray[np.intp]:
    """Ascending places of the smallest set of likeliest tokens that holds `top_p` of the mass."""
    mass = np.exp(work)
    total = float(mass.sum())
    goal = top_p * total
    # Tokens this unlikely hold, all together, less than what may be left out: never sorted.
    floor = (total - goal) / (2 * mass.shape[0])
    falling = np.sort(mass[mass >= floor])[::-1]
    count = int(np.searchsorted(np.cumsum(falling), goal)) + 1
    return _largest(work, count)


def _largest(values: Scores | _Work, count: int) -> NDArray[np.intp]:
    """Ascending places of the `count` largest values; of equal ones the lower places."""
    count = min(count, values.shape[0])
    if count == 0:
        return np.empty(0, np.intp)
    least = np.partition(values, values.shape[0] - count)[values.shape[0] - count]
    above = np.flatnonzero(values > least)
    level = np.flatnonzero(values == least)[: count - above.shape[0]]
    return np.sort(np.concatenate([above, level]))


def gumbel(
    sampling: Sampling, position: int, ids: NDArray[np.intp] | None, size: int
) -> NDArray[np.float64]:
    """Standard Gumbel noise for token `ids`, or for all [0, size) when None.

    Philox key (seed low, seed high), counter (id // 4, position, sample, 0), word id % 4.
    """
    key = (sampling.seed & 0xFFFFFFFF, sampling.seed >> 32)
    one = [np.array([x], np.uint64) for x in (position & 0xFFFFFFFF, sampling.sample_index, 0)]
    if ids is None:
        blocks = np.arange((size + 3) // 4, dtype=np.uint64)
        words = philox4x32((blocks, one[0], one[1], one[2]), key).T.reshape(-1)[:size]
    else:
        four = philox4x32(((ids // 4).astype(np.uint64), one[0], one[1], one[2]), key)
        words = four[ids % 4, np.arange(ids.shape[0])]
    noise = uniform(words)
    for _ in range(2):
        np.log(noise, out=noise)
        np.negative(noise, out=noise)
    return noise
