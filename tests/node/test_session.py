"""A session: chunks in a window, wanted rows, targets, rewinding, going on after a loss."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from manyhands.codec import codec
from manyhands.domain.messages import SessionClose
from manyhands.domain.settings import Settings
from manyhands.domain.work import Result, Want
from manyhands.errors import BadSampling, ContextOverflow, NotServed, UserError
from manyhands.sim.hash_engine import HashEngine
from node_cases import SPEC, true_tokens
from session_house import at_home

TOKENS = tuple(range(3, 28))
CHUNKED = Settings(chunk_tokens=4, window_chunks=3)
ALL, LAST, NONE = Want(rows="all"), Want(rows="last"), Want(rows="none", token=False)


def tokens(results) -> list[int]:
    return [token for result in results for token in result.tokens]


def test_all_rows_come_in_order_over_all_chunks():
    async def test(home):
        results = await home.session.run(TOKENS, ALL)
        assert tokens(results) == true_tokens(TOKENS)
        assert [result.position for result in results] == list(range(0, 25, 4))
        assert home.session.length == len(TOKENS)

    at_home(test, settings=CHUNKED)


def test_of_the_last_row_only_the_last_chunk_answers():
    async def test(home):
        (result,) = await home.session.run(TOKENS, LAST)
        assert list(result.tokens) == true_tokens(TOKENS)[-1:]
        wanted = [step.want.rows for step in home.steps()]
        assert wanted == ["none"] * 6 + ["last"]

    at_home(test, settings=CHUNKED)


def test_where_nothing_is_wanted_nothing_comes_and_the_text_is_in_memory():
    async def test(home):
        assert await home.session.run(TOKENS, NONE) == []
        assert home.session.length == len(TOKENS)
        assert tokens(await home.session.run((1,), LAST)) == true_tokens((*TOKENS, 1))[-1:]

    at_home(test, settings=CHUNKED)


def test_no_tokens_are_no_step():
    async def test(home):
        assert await home.session.run((), LAST) == []
        assert home.steps() == []

    at_home(test)


@pytest.mark.parametrize("window", [1, 3])
def test_never_more_chunks_than_the_window_are_in_flight(window):
    async def test(home):
        await home.session.run(TOKENS, ALL)
        in_flight = most = 0
        for source, target, message in home.seen:
            if message in home.steps() and source == 0:
                in_flight += 1
            elif type(message) is Result and target == 0:
                in_flight -= 1
            most = max(most, in_flight)
        assert most == window

    at_home(test, settings=Settings(chunk_tokens=4, window_chunks=window))


def test_one_call_after_the_other_says_what_one_call_says():
    async def test(home):
        said = []
        for at in range(0, len(TOKENS), 6):
            said += tokens(await home.session.run(TOKENS[at : at + 6], ALL))
        assert said == true_tokens(TOKENS)

    at_home(test, settings=CHUNKED)


def test_too_many_tokens_are_refused_before_anything_is_sent_and_the_session_goes_on():
    async def test(home):
        await home.session.run(TOKENS[:8], NONE)
        sent = len(home.steps())
        with pytest.raises(ContextOverflow, match="11 tokens are more than the context of 10"):
            await home.session.run(TOKENS[8:11], ALL)
        assert len(home.steps()) == sent
        assert home.session.length == 8
        said = tokens(await home.session.run(TOKENS[8:10], ALL))
        assert said == true_tokens(TOKENS[:10])[8:]

    at_home(test, settings=CHUNKED, context_limit=10)


def test_targets_go_with_their_tokens_over_all_chunks():
    async def test(home):
        targets = [*TOKENS[1:], true_tokens(TOKENS)[-1]]
        results = await home.session.run(TOKENS, Want(rows="all", token=False), targets=targets)
        scores = HashEngine(SPEC, SPEC.span).forward(TOKENS, None).scores.astype(np.float64)
        expected = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        said = [value for result in results for value in result.target_logprob]
        assert said == pytest.approx(expected[range(len(TOKENS)), targets], abs=1e-6)
        assert results[-1].target_is_greedy[-1]

    at_home(test, settings=CHUNKED)


def test_a_mask_for_the_last_row_goes_with_the_last_chunk():
    async def test(home):
        mask = np.zeros((1, SPEC.vocabulary), bool)
        mask[0, 9] = True
        allowed = codec.encode("bits", mask)
        (result,) = await home.session.run(TOKENS, LAST, allowed=allowed)
        assert result.tokens == (9,)

    at_home(test, settings=CHUNKED)


def test_masks_for_more_rows_than_a_chunk_has_are_not_served():
    async def test(home):
        allowed = codec.encode("bits", np.ones((5, SPEC.vocabulary), bool))
        with pytest.raises(NotServed, match="chunk_tokens"):
            await home.session.run(TOKENS[:5], ALL, allowed=allowed)
        assert home.steps() == []

    at_home(test, settings=CHUNKED)


@pytest.mark.parametrize("length", [0, 1, 7, 24])
def test_after_rewinding_the_text_goes_on_as_if_nothing_had_been(length):
    async def test(home):
        await home.session.run(TOKENS, NONE)
        home.session.rewind(length)
        assert home.session.length == length
        home.session.rewind(30)  # what is not there cannot be forgotten
        said = tokens(await home.session.run((30, 31), ALL))
        assert said == true_tokens((*TOKENS[:length], 30, 31))[length:]
        assert home.steps()[-1].branch == 1

    at_home(test, settings=CHUNKED)


def test_a_token_outside_the_vocabulary_is_the_users_error_and_the_session_goes_on():
    async def test(home):
        await home.session.run(TOKENS[:5], NONE)
        with pytest.raises(UserError, match="vocabulary"):
            await home.session.run((1, 999), ALL)
        assert home.session.length == 5
        assert tokens(await home.session.run((7, 8), ALL)) == true_tokens((*TOKENS[:5], 7, 8))[5:]

    at_home(test)


def test_a_target_outside_the_vocabulary_comes_back_by_name_from_the_last_stage():
    async def test(home):
        with pytest.raises(BadSampling, match="target token 999"):
            await home.session.run((1,), ALL, targets=(999,))
        assert tokens(await home.session.run((7, 8), ALL)) == true_tokens((7, 8))

    at_home(test)


@pytest.mark.parametrize("killed", [1, 2])
def test_a_prompt_goes_on_after_a_stage_is_killed_in_the_middle_of_it(killed):
    async def test(home):
        loop = asyncio.get_running_loop()
        loop.call_later(0.03, home.fleet.kill, killed)
        results = await home.session.run(TOKENS, ALL)
        assert not home.fleet.is_alive(killed)
        assert tokens(results) == true_tokens(TOKENS)
        assert [result.position for result in results] == list(range(0, 25, 4))
        assert len(home.session.recovery.recovered_s) == 1
        assert home.fleet.peer(3) in home.session.ring.route.peers()

    at_home(test, settings=CHUNKED)


def test_a_session_says_which_kernels_took_part():
    async def test(home):
        assert home.session.kernels == ("hash",)

    at_home(test)


def test_closing_tells_every_stage_and_frees_their_memory():
    async def test(home):
        await home.session.run(TOKENS, NONE)
        home.fleet.nodes[0].owner.close(home.session)
        await asyncio.sleep(1)
        assert len(home.of(SessionClose)) == 2
        for node in home.fleet.nodes:
            assert node.worker.memories.all() == []

    at_home(test)
