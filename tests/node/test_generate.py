"""From a prompt to tokens: the same text with and without drafts, and exact ends."""

from __future__ import annotations

import random

import pytest

from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling, Want
from manyhands.engine.sampler import draw
from manyhands.errors import ContextOverflow, UserError
from manyhands.node.generate import no_draft, speak
from manyhands.sim.hash_engine import HashEngine
from node_cases import SPEC
from session_house import WARM, at_home, true_text

PROMPT = (1, 2, 3, 4, 5)


async def spoken(home, count: int, prompt=PROMPT, **options) -> list[int]:
    return [token.id async for token in speak(home.session, prompt, count, **options)]


def drafter(truth: list[int], skill: float, seed: int = 5):
    """Guesses the true text, each token right with chance `skill`; `asked` counts the guesses."""
    chance = random.Random(seed)

    def draft(text, count):
        draft.asked += count
        at = len(text) - len(PROMPT)
        guesses = truth[at : at + count]
        return [g if chance.random() < skill else (g + 1) % SPEC.vocabulary for g in guesses]

    draft.asked = 0
    return draft


@pytest.mark.parametrize("sampling", [Sampling(), WARM], ids=["greedy", "warm"])
def test_the_text_is_that_of_one_device(sampling):
    async def test(home):
        assert await spoken(home, 20) == true_text(PROMPT, 20, sampling)

    at_home(test, sampling=sampling)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_exactly_max_tokens_are_spoken(count):
    async def test(home):
        assert len(await spoken(home, count)) == count
        assert len(home.steps()) == count  # the prompt, and one a token but the last

    at_home(test)


@pytest.mark.parametrize("skill", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("sampling", [Sampling(), WARM], ids=["greedy", "warm"])
def test_drafts_change_the_speed_and_never_the_text(skill, sampling):
    truth = true_text(PROMPT, 40, sampling)

    async def test(home):
        draft = drafter(truth, skill)
        assert await spoken(home, 30, draft=draft, draft_tokens=4) == truth[:30]
        assert draft.asked > 0
        if skill == 1.0:
            assert len(home.steps()) <= 2 + 30 // 5
        if skill == 0.0:
            assert len(home.steps()) == 30

    at_home(test, sampling=sampling)


@pytest.mark.parametrize("count", range(1, 12))
def test_with_right_drafts_exactly_max_tokens_are_spoken_too(count):
    truth = true_text(PROMPT, 20)

    async def test(home):
        draft = drafter(truth, 1.0)
        assert await spoken(home, count, draft=draft, draft_tokens=4) == truth[:count]

    at_home(test)


def test_a_drafter_that_gives_more_than_asked_is_cut_short():
    truth = true_text(PROMPT, 20)

    async def test(home):
        def draft(text, count):
            return truth[len(text) - len(PROMPT) :]

        assert await spoken(home, 6, draft=draft, draft_tokens=2) == truth[:6]

    at_home(test)


def test_a_drafter_may_fall_silent():
    truth = true_text(PROMPT, 20)

    async def test(home):
        def draft(text, count):
            return truth[len(text) - len(PROMPT) :][:count] if len(text) % 3 else ()

        assert await spoken(home, 12, draft=draft, draft_tokens=3) == truth[:12]

    at_home(test)


def test_guessing_nothing_is_the_default():
    assert list(no_draft([1, 2], 4)) == []


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("draft_tokens", [0, 3])
def test_an_end_token_ends_the_text_and_is_not_spoken(at, draft_tokens):
    truth = true_text(PROMPT, 12, WARM)
    end = truth[at]
    whole = truth[: truth.index(end)]

    async def test(home):
        said = await spoken(
            home,
            12,
            end_tokens=frozenset({end, 999}),
            draft=drafter(truth, 1.0),
            draft_tokens=draft_tokens,
        )
        assert said == whole

    at_home(test, sampling=WARM)


@pytest.mark.parametrize("draft_tokens", [0, 4])
def test_the_context_limit_ends_the_text(draft_tokens):
    truth = true_text(PROMPT, 20)

    async def test(home):
        draft = drafter(truth, 1.0)
        said = await spoken(home, 50, draft=draft, draft_tokens=draft_tokens)
        # the last token is drawn from a full context and is in nobody's memory
        assert said == truth[: 12 - len(PROMPT) + 1]
        assert home.session.length <= 12

    at_home(test, context_limit=12)


def test_a_prompt_that_fills_the_context_gives_one_token():
    async def test(home):
        assert await spoken(home, 9) == true_text(PROMPT, 1)

    at_home(test, context_limit=len(PROMPT))


def test_a_prompt_longer_than_the_context_is_refused_before_anything_is_sent():
    async def test(home):
        with pytest.raises(ContextOverflow):
            await spoken(home, 9)
        assert home.steps() == []

    at_home(test, context_limit=len(PROMPT) - 1)


def test_log_probabilities_come_with_every_token_when_wanted():
    truth = true_text(PROMPT, 9)

    async def test(home):
        want = Want(logprob=True, top_n=2)
        draft = drafter(truth, 0.5)
        speaking = speak(home.session, PROMPT, 9, want=want, draft=draft, draft_tokens=3)
        said = [token async for token in speaking]
        assert [token.id for token in said] == truth
        for token in said:
            assert token.top[0] == (token.id, token.logprob)  # greedy: the likeliest is chosen
            assert token.top[0][1] > token.top[1][1]

    at_home(test)


def test_without_being_wanted_nothing_of_the_kind_comes():
    async def test(home):
        async for token in speak(home.session, PROMPT, 3):
            assert (token.logprob, token.top) == (None, ())

    at_home(test)


def test_penalties_count_what_was_spoken_and_not_rejected_drafts():
    sampling = Sampling(presence_penalty=3.0, frequency_penalty=1.0)
    truth = true_text(PROMPT, 24, sampling, len(PROMPT))
    assert truth != true_text(PROMPT, 24)

    async def test(home):
        draft = drafter(truth, 0.5)
        assert await spoken(home, 20, draft=draft, draft_tokens=3) == truth[:20]

    at_home(test, sampling=sampling, prompt_length=len(PROMPT))


def test_penalties_do_not_count_what_an_encoder_read():
    sampling = Sampling(repetition_penalty=5.0, presence_penalty=3.0)
    prompt = (*range(20), *PROMPT)

    async def test(home):
        text = list(prompt)
        said = await spoken(home, 12, prompt)
        for token in said:
            scores = HashEngine(SPEC, SPEC.span).forward(text, None).scores[-1]
            drawn = draw(
                scores,
                sampling,
                position=len(text),
                history=text[20:],
                want=Want(),
                prompt_length=0,
            )
            assert drawn.token == token
            text.append(token)

    at_home(test, sampling=sampling, prompt_length=20, source=20)


def test_a_long_prompt_goes_in_chunks_and_says_the_same():
    prompt = tuple(range(30))

    async def test(home):
        assert await spoken(home, 5, prompt) == true_text(prompt, 5)
        assert [len(step.token_ids) for step in home.steps()][:5] == [7, 7, 7, 7, 2]

    at_home(test, settings=Settings(chunk_tokens=7))


def test_no_tokens_are_spoken_when_none_are_asked_for():
    async def test(home):
        assert await spoken(home, 0) == []

    at_home(test)


def test_an_empty_prompt_is_the_users_error():
    async def test(home):
        with pytest.raises(UserError):
            await spoken(home, 3, prompt=())

    at_home(test)
