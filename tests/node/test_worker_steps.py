"""Steps at a worker: passed on or answered, computed together, and never from the wrong peer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import frame_rows
from manyhands.codec import codec
from manyhands.domain.ids import SessionId
from manyhands.domain.messages import Gap, Refused, Replay, Replayed
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, Route, Sampling, Stage, Step, Want
from manyhands.sim.hash_engine import HashEngine
from node_cases import (
    ALONE,
    ANNA,
    BEN,
    LOWER,
    OTHER,
    OWNER,
    SESSION,
    SPEC,
    STRANGER,
    UPPER,
    opening,
    step,
    true_hidden,
    true_tokens,
)
from worker_bench import on_bench

NAMES = tuple(SessionId(f"{number:032x}") for number in range(5))


def logprobs(tokens) -> np.ndarray:
    scores = HashEngine(SPEC, SPEC.span).forward(tokens, None).scores.astype(np.float64)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def test_a_first_stage_passes_on_what_its_span_makes_of_the_tokens():
    async def test(bench):
        await bench.opened(opening())
        sent = step(0, 0, [1, 2, 3], next_token_ids=(2, 3, 4), branch=5, deadline_s=9.0)
        bench.receive(OWNER, sent)
        await bench.settle()
        ((target, onward),) = bench.links.take()
        assert target == BEN
        assert len(onward.compute_s) == 1
        assert onward.compute_s[0] > 0
        expected = replace(sent, stage=1, tensor=true_hidden([1, 2, 3]))
        assert replace(onward, compute_s=()) == expected
        assert bench.done == 1

    on_bench(test)


def test_the_last_stage_answers_straight_to_the_owner():
    async def test(bench):
        await bench.opened(opening(1))
        sent = step(4, 0, [1, 2], stage=1, tensor=true_hidden([1, 2]), compute_s=(0.5,), branch=2)
        bench.receive(ANNA, sent)
        await bench.settle()
        ((target, result),) = bench.links.take()
        assert target == OWNER
        assert (result.sequence, result.branch, result.position) == (4, 2, 0)
        assert list(result.tokens) == true_tokens([1, 2])
        assert result.compute_s[0] == 0.5
        assert len(result.compute_s) == 2

    on_bench(test, me=BEN)


def test_a_peer_that_holds_both_stages_sends_to_itself_and_says_the_same():
    async def test(bench):
        both = Route((Stage(ANNA, LOWER), Stage(ANNA, UPPER)))
        await bench.opened(opening(0, both), opening(1, both))
        bench.receive(OWNER, step(0, 0, [1, 2, 3]))
        await bench.settle()
        bench.receive(ANNA, *bench.links.of(Step, to=ANNA))
        await bench.settle()
        assert bench.tokens() == true_tokens([1, 2, 3])

    on_bench(test)


def test_only_the_stage_before_may_send_steps():
    async def test(bench):
        await bench.opened(opening(1))
        good = step(0, 0, [1], stage=1, tensor=true_hidden([1]))
        for source in (OWNER, STRANGER, BEN):
            bench.receive(source, good)
        await bench.settle()
        assert bench.links.sent == []
        assert bench.done == 3  # ignored, and their places are free again
        bench.receive(ANNA, good)
        await bench.settle()
        assert bench.tokens() == true_tokens([1])

    on_bench(test, me=BEN)


def test_steps_of_sessions_not_open_here_are_worked_off_in_silence():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1], session=OTHER), step(0, 0, [1], stage=7, through=9))
        await bench.settle()
        assert bench.links.sent == []
        assert bench.done == 2

    on_bench(test)


def test_steps_out_of_order_are_told_as_a_gap_and_repeated_ones_dropped():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1], ALONE), step(2, 1, [2], ALONE))
        await bench.settle()
        assert bench.links.of(Gap) == [Gap(SESSION, 1, 0, 1)]
        bench.receive(OWNER, step(1, 3, [2], ALONE))
        await bench.settle()
        assert bench.links.of(Gap) == [Gap(SESSION, 1, 0, 1)] * 2
        bench.receive(OWNER, step(0, 0, [1], ALONE))
        await bench.settle()
        assert len(bench.links.of(Result)) == 1
        assert bench.done == 4

    on_bench(test)


def test_a_rejected_draft_is_overwritten():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2, 8, 9], ALONE))
        bench.receive(OWNER, step(1, 2, [3], ALONE, branch=1))
        bench.receive(OWNER, step(2, 3, [7], ALONE, branch=0))  # of the branch that was rejected
        await bench.settle()
        assert bench.tokens() == true_tokens([1, 2, 8, 9]) + true_tokens([1, 2, 3])[2:]

    on_bench(test)


async def open_all(bench) -> None:
    await bench.opened(*(opening(route=ALONE, session=name) for name in NAMES))
    bench.batches.clear()


def test_steps_of_different_sessions_are_computed_together():
    async def test(bench):
        await open_all(bench)
        for number, name in enumerate(NAMES):
            bench.receive(OWNER, step(0, 0, [number, 1], ALONE, session=name))
        await bench.settle()
        assert bench.batches == [[2] * len(NAMES)]
        for number, name in enumerate(NAMES):
            (result,) = [one for one in bench.links.of(Result) if one.session == name]
            assert list(result.tokens) == true_tokens([number, 1])
        assert bench.done == len(NAMES)

    on_bench(test)


def test_steps_of_one_session_are_computed_one_after_the_other():
    async def test(bench):
        await open_all(bench)
        for number in range(3):
            bench.receive(OWNER, step(number, number, [number], ALONE, session=NAMES[0]))
            bench.receive(OWNER, step(number, number, [number], ALONE, session=NAMES[1]))
        await bench.settle()
        assert bench.batches == [[1, 1]] * 3
        texts = [one.tokens[0] for one in bench.links.of(Result) if one.session == NAMES[0]]
        assert texts == true_tokens([0, 1, 2])

    on_bench(test)


def test_everybody_s_next_tokens_run_beside_one_chunk_of_a_prompt():
    async def test(bench):
        await open_all(bench)
        sizes = (3, 20, 2, 30, 1)
        for size, name in zip(sizes, NAMES, strict=True):
            bench.receive(OWNER, step(0, 0, range(size), ALONE, session=name))
        await bench.settle()
        assert bench.batches == [[3, 2, 1, 20], [30]]
        texts = {one.session: list(one.tokens) for one in bench.links.of(Result)}
        assert texts == {n: true_tokens(range(s)) for n, s in zip(NAMES, sizes, strict=True)}
        assert bench.done == len(NAMES)

    on_bench(test)


def test_chunks_alone_run_together_up_to_the_size_of_one():
    async def test(bench):
        await open_all(bench)
        sizes = (12, 10, 30, 12, 9)  # the third alone is longer than a chunk: it goes by itself
        for size, name in zip(sizes, NAMES, strict=True):
            bench.receive(OWNER, step(0, 0, range(size), ALONE, session=name))
        await bench.settle()
        assert bench.batches == [[12, 10], [30], [12, 9]]

    on_bench(test, settings=Settings(beat_every_s=60.0, chunk_tokens=24))


def test_two_prompts_go_on_by_turns_and_never_hold_up_a_next_token_twice():
    async def test(bench):
        await open_all(bench)
        a, b, c = NAMES[:3]
        for turn in range(2):
            for name in (a, b):
                text = range(12 * turn, 12 * turn + 12)
                bench.receive(OWNER, step(turn, 12 * turn, text, ALONE, session=name))
        await bench.settle(3e-5)  # the first chunk is at work
        bench.receive(OWNER, step(0, 0, [1], ALONE, session=c))
        await bench.settle()
        bench.receive(OWNER, step(1, 1, [1], ALONE, session=c))
        await bench.settle()
        assert bench.batches == [[12], [1], [12], [12], [12], [1]]
        done = [one.session for one in bench.links.of(Result)]
        assert done == [a, c, b, a, b, c]

    on_bench(test, settings=Settings(beat_every_s=60.0, chunk_tokens=12))


def test_a_failing_step_of_a_batch_does_not_hurt_the_others():
    async def test(bench):
        await open_all(bench)
        for number, name in enumerate(NAMES):
            token = 99 if number == 2 else number  # 99 is outside the vocabulary
            bench.receive(OWNER, step(0, 0, [token], ALONE, session=name))
        await bench.settle()
        (refused,) = bench.links.of(Refused)
        assert (refused.session, refused.stage, refused.code) == (NAMES[2], 0, "user")
        assert "vocabulary" in refused.message
        texts = {one.session: list(one.tokens) for one in bench.links.of(Result)}
        assert texts == {NAMES[n]: true_tokens([n]) for n in (0, 1, 3, 4)}
        assert bench.done == len(NAMES)
        bench.receive(OWNER, step(1, 0, [2], ALONE, session=NAMES[2]))
        await bench.settle()
        assert list(bench.answer().tokens) == true_tokens([2])  # it may go on

    on_bench(test)


BAD_STEPS = {
    "side tensors": ({"side": {"image": TensorFrame("fp32", (1, 1), bytes(4))}}, "not_served"),
    "pooled outputs": ({"want": Want(pooled=True)}, "not_served"),
    "logits and hidden states": ({"want": Want(logits=True, hidden=True)}, "not_served"),
    "hidden states for the embedding": ({"tensor": true_hidden([1])}, "user"),
    "an unknown codec": ({"tensor": TensorFrame("zip", (1, 3), bytes(12))}, "protocol"),
    "a tensor cut short": ({"tensor": TensorFrame("fp32", (1, 3), bytes(5))}, "protocol"),
    "more tokens than the session holds": ({"token_ids": (1,) * 65}, "context_overflow"),
    "a mask of another vocabulary": (
        {"allowed": codec.encode("bits", np.ones((1, 7), bool))},
        "bad_sampling",
    ),
    "a mask that allows nothing": (
        {"allowed": codec.encode("bits", np.zeros((1, 32), bool))},
        "bad_sampling",
    ),
    "a target outside the vocabulary": ({"next_token_ids": (99,)}, "bad_sampling"),
}


@pytest.mark.parametrize(("changes", "code"), BAD_STEPS.values(), ids=BAD_STEPS)
def test_a_step_that_cannot_be_served_is_refused_by_name_and_the_session_goes_on(changes, code):
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1], ALONE, **changes))
        await bench.settle()
        assert bench.refusal() == code
        assert bench.links.of(Result) == []
        bench.receive(OWNER, step(1, 0, [1, 2], ALONE))
        await bench.settle()
        assert bench.tokens() == true_tokens([1, 2])
        assert bench.done == 2

    on_bench(test)


def test_of_the_allowed_tokens_the_best_is_drawn_row_by_row():
    async def test(bench):
        await bench.opened()
        tokens = [1, 2, 3]
        mask = np.zeros((3, SPEC.vocabulary), bool)
        mask[0, [4, 5]] = mask[1, [6]] = mask[2, :] = True
        allowed = codec.encode("bits", mask)
        bench.receive(OWNER, step(0, 0, tokens, ALONE, allowed=allowed))
        await bench.settle()
        scores = np.where(mask, logprobs(tokens), -np.inf)
        assert bench.tokens() == scores.argmax(axis=1).tolist()
        assert bench.tokens() != true_tokens(tokens)

    on_bench(test)


def test_targets_are_scored_row_by_row():
    async def test(bench):
        await bench.opened()
        tokens, targets = [1, 2, 3], (2, 3, true_tokens([1, 2, 3])[2])
        want = Want(rows="all", token=False)
        bench.receive(OWNER, step(0, 0, tokens, ALONE, next_token_ids=targets, want=want))
        await bench.settle()
        result = bench.answer()
        expected = logprobs(tokens)[range(3), targets]
        assert result.target_logprob == pytest.approx(expected, abs=1e-6)
        best = [token == target for token, target in zip(true_tokens(tokens), targets, strict=True)]
        assert list(result.target_is_greedy) == best
        assert result.tokens == ()

    on_bench(test)


def test_log_probabilities_and_the_likeliest_tokens_come_when_asked_for():
    async def test(bench):
        await bench.opened()
        want = Want(rows="last", logprob=True, top_n=3)
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE, want=want))
        await bench.settle()
        result, expected = bench.answer(), logprobs([1, 2])[1]
        assert result.chosen_logprob == pytest.approx([expected.max()], abs=1e-6)
        (ids,), (values,) = result.top_ids, result.top_logprobs
        assert list(ids) == np.argsort(-expected, kind="stable")[:3].tolist()
        assert values == pytest.approx(expected[list(ids)], abs=1e-6)

    on_bench(test)


@pytest.mark.parametrize("kind", ["logits", "hidden"])
def test_scores_and_hidden_states_come_exactly_when_asked_for(kind):
    async def test(bench):
        await bench.opened()
        want = Want(rows="all", token=False, **{kind: True})
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE, want=want))
        await bench.settle()
        output = HashEngine(SPEC, SPEC.span).forward([1, 2], None)
        expected = output.scores if kind == "logits" else output.hidden
        np.testing.assert_array_equal(codec.decode(bench.answer().tensor), expected)
        assert bench.tokens() == []

    on_bench(test)


def test_draws_depend_on_seed_and_position_and_not_on_chunks():
    async def test(bench):
        warm = Sampling(seed=3, temperature=2.0)
        names = NAMES[:3]
        settings = [warm, warm, replace(warm, seed=4)]
        await bench.opened(
            *(
                opening(route=ALONE, session=name, sampling=sampling)
                for name, sampling in zip(names, settings, strict=True)
            )
        )
        tokens = list(range(24))
        for at in range(0, 24, 6):
            bench.receive(OWNER, step(at // 6, at, tokens[at : at + 6], ALONE, session=names[0]))
        for name in names[1:]:
            bench.receive(OWNER, step(0, 0, tokens, ALONE, session=name))
        await bench.settle()
        spoken = {
            name: [t for one in bench.links.of(Result) if one.session == name for t in one.tokens]
            for name in names
        }
        assert spoken[names[0]] == spoken[names[1]] != spoken[names[2]]
        assert len(spoken[names[0]]) == 24

    on_bench(test)


def test_penalties_know_the_text_before_the_step():
    async def test(bench):
        said = true_tokens([1, 2])[1]
        sampling = Sampling(presence_penalty=100.0)
        await bench.opened(opening(route=ALONE, sampling=sampling, prompt_length=0))
        bench.receive(OWNER, step(0, 0, [said], ALONE))
        bench.receive(OWNER, step(1, 1, [1], ALONE), step(2, 2, [2], ALONE))
        await bench.settle()
        scores = logprobs([said, 1, 2])
        scores[2, [said, 1, 2]] = -np.inf
        assert bench.tokens()[2] == scores[2].argmax()

    on_bench(test)


def test_rows_that_nobody_wants_are_not_answered_with_tokens():
    async def test(bench):
        await bench.opened()
        bench.receive(OWNER, step(0, 0, [1, 2], ALONE, want=Want(rows="none", token=False)))
        bench.receive(OWNER, step(1, 2, [3], ALONE, want=Want(rows="last")))
        await bench.settle()
        first, second = bench.links.of(Result)
        assert first.tokens == ()
        assert list(second.tokens) == true_tokens([1, 2, 3])[2:]

    on_bench(test)


def test_a_replay_fills_a_stand_in_and_ends_there():
    async def test(bench):
        three = Route((Stage(BEN, LOWER), Stage(ANNA, Span(2, 3)), Stage(BEN, Span(3, 4))))
        await bench.opened(opening(1, three))
        nothing = Want(rows="none", token=False)
        bench.receive(
            BEN,
            step(5, 0, [1, 2], stage=1, through=1, tensor=true_hidden([1, 2]), want=nothing),
        )
        await bench.settle()
        assert bench.links.sent == [(OWNER, Replayed(SESSION, 1, 1, 2))]
        bench.links.take()
        bench.receive(
            BEN,
            step(
                6,
                2,
                [3],
                stage=1,
                through=2,
                tensor=frame_rows.cut(true_hidden([1, 2, 3]), 2, 3),
            ),
        )
        bench.receive(OWNER, Replay(SESSION, 1, 1, 2, 0, 3, 8, 0, 0))
        await bench.settle()
        onward, replayed = bench.passed_on()
        whole = true_hidden([1, 2, 3], replace(LOWER, last=3))
        assert replayed.tensor == whole
        assert onward.tensor.payload == frame_rows.cut(whole, 2, 3).payload

    on_bench(test)
