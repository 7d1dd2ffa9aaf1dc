"""A session: chunks in a window, wanted rows, targets, rewinding, going on after a loss."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

import frame_rows
from manyhands.codec import codec
from manyhands.domain.messages import Gap, Refused, SessionClose
from manyhands.domain.settings import Settings
from manyhands.domain.work import Result, Sampling, Step, Want
from manyhands.errors import BadSampling, ContextOverflow, NotServed, ResourceError, UserError
from manyhands.node.owner import longest_source
from manyhands.node.setback import Setback
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.hash_engine import HashEngine
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual
from node_cases import DEVICE, LOWER, SPEC, UPPER, model, true_tokens
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


def who_serves(home) -> list[bool]:
    """Which of the members 1, 2 and 3 are in the route."""
    peers = home.session.ring.route.peers()
    return [home.fleet.peer(number) in peers for number in (1, 2, 3)]


def fewer_rows(result: Result) -> Result:
    tensor = result.tensor
    return replace(result, tensor=frame_rows.cut(tensor, 0, tensor.shape[0] - 1))


ROWS = Want(rows="all", logits=True)
LIES = {
    "too few tokens": (ALL, lambda r: replace(r, tokens=r.tokens[:-1])),
    "too many tokens": (LAST, lambda r: replace(r, tokens=(*r.tokens, 1))),
    "tokens nobody wanted": (NONE, lambda r: replace(r, tokens=(1,))),
    "a token outside the vocabulary": (
        ALL,
        lambda r: replace(r, tokens=(*r.tokens[:-1], SPEC.vocabulary)),
    ),
    "too few rows": (ROWS, fewer_rows),
    "no rows": (ROWS, lambda r: replace(r, tensor=None)),
}


@pytest.mark.parametrize(("want", "lie"), LIES.values(), ids=LIES)
def test_an_answer_that_is_not_what_was_asked_costs_the_last_stage_its_place(want, lie):
    async def test(home):
        home.lie(2, lie)
        results = await home.session.run(TOKENS, want)
        assert who_serves(home) == [True, False, True]
        expected = {"all": true_tokens(TOKENS), "last": true_tokens(TOKENS)[-1:], "none": []}
        assert tokens(results) == expected[want.rows]
        if want.logits:
            rows = [codec.decode(result.tensor) for result in results]
            truth = HashEngine(SPEC, SPEC.span).forward(TOKENS, None).scores
            np.testing.assert_array_equal(np.concatenate(rows), truth)

    at_home(test, settings=CHUNKED)


async def hear(home, message) -> None:
    """The first stage says this, and the session recovers from it."""
    ring = home.session.ring
    ring.deliver(ring.route.stages[0].peer, replace(message, epoch=ring.epoch))
    with pytest.raises(Setback) as raised:
        await ring.next("result")
    await home.session.recovery.run(raised.value)


def complaint(home, kind: str) -> Gap | Refused:
    session = home.session.terms.session
    if kind == "gap":
        return Gap(session, 1, 0, 0)
    return Refused(session, 1, 0, kind, "as you hear")


@pytest.mark.parametrize("kind", ["gap", "session_unknown"])
def test_a_peer_that_complains_twice_without_progress_is_suspected_itself(kind):
    async def test(home):
        await hear(home, complaint(home, kind))
        assert who_serves(home) == [True, True, False]
        await hear(home, complaint(home, kind))
        assert who_serves(home) == [False, True, True]
        assert tokens(await home.session.run(TOKENS, ALL)) == true_tokens(TOKENS)

    at_home(test)


def test_after_progress_a_peer_may_complain_once_again():
    async def test(home):
        for number in range(3):
            await hear(home, complaint(home, "gap"))
            assert who_serves(home) == [True, True, False]
            said = tokens(await home.session.run((number,), ALL))
            assert said == true_tokens(range(number + 1))[-1:]

    at_home(test)


def test_the_same_refusal_twice_is_raised_and_after_progress_it_counts_anew():
    async def test(home):
        recovery, peer = home.session.recovery, home.fleet.peer(1)

        def refusal(error):
            return Setback(str(error), lost=frozenset({peer}), cause=error)

        await recovery.run(refusal(ResourceError("no room")))
        assert who_serves(home) == [False, True, True]
        await recovery.run(refusal(NotServed("another reason")))
        await home.session.run(TOKENS, NONE)
        await recovery.run(refusal(ResourceError("no room")))
        with pytest.raises(ResourceError, match="still no room"):
            await recovery.run(refusal(ResourceError("still no room")))

    at_home(test)


def test_stand_ins_are_given_what_fits_in_the_numbers_that_the_engine_keeps():
    async def main():
        one = replace(model(), load=lambda span: HashEngine(SPEC, span), bytes_per_weight=1000.0)
        members = (Member(can_load=False), *(Member((s,), False) for s in (LOWER, UPPER)))
        async with Fleet(1, one, (*members, Member(), Member())) as fleet:
            session = await fleet.nodes[0].owner.open(one, Sampling(), 0)
            for spare in fleet.nodes[3:]:  # each has room for one of the two layers of LOWER
                spare.holdings._device = replace(DEVICE, memory_bytes=1700)
                spare.directory.announce()
            await asyncio.sleep(1.0)
            fleet.kill(1)
            assert tokens(await session.run(TOKENS, ALL)) == true_tokens(TOKENS)
            stood_in = {fleet.number(peer) for peer in session.ring.route.peers()}
            assert stood_in == {2, 3, 4}

    run_virtual(main)


@pytest.mark.parametrize("load_s", [20.0, 40.0, 100.0])
def test_a_stand_in_may_load_for_as_long_as_the_load_deadline_says(load_s):
    class SlowLoading(VirtualCompute):
        async def run(self, work, cost_s):
            await asyncio.sleep(load_s)
            return await super().run(work, cost_s)

    async def test(home):
        home.fleet.nodes[3].holdings._loading = SlowLoading()
        home.fleet.kill(1)
        assert tokens(await home.session.run(TOKENS, ALL)) == true_tokens(TOKENS)
        assert home.session.ring.epoch == 2  # nobody lost patience meanwhile

    at_home(test, settings=Settings(recovery_deadline_s=300.0))


def test_an_error_of_the_users_does_not_use_up_the_time_of_a_later_recovery():
    async def test(home):
        with pytest.raises(UserError, match="vocabulary"):
            await home.session.run((1, 999), ALL)
        await asyncio.sleep(2 * Settings().recovery_deadline_s)
        home.fleet.kill(home.fleet.number(home.session.ring.route.stages[0].peer))
        assert tokens(await home.session.run(TOKENS, ALL)) == true_tokens(TOKENS)

    at_home(test)


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


def test_what_an_encoder_reads_is_one_step_without_answer():
    async def test(home):
        results = await home.session.run(TOKENS, ALL)
        spans = [(step.position, len(step.token_ids), step.want.rows) for step in home.steps()]
        assert spans == [(0, 18, "none"), (18, 4, "all"), (22, 3, "all")]
        assert tokens(results) == true_tokens(TOKENS)[18:]

    at_home(test, settings=CHUNKED, prompt_length=18, source=20)


@pytest.mark.parametrize("killed", [1, 2])
def test_after_a_loss_it_is_read_again_in_one_step(killed):
    async def test(home):
        said = tokens(await home.session.run(TOKENS, LAST))
        home.fleet.kill(killed)
        said += tokens(await home.session.run((1,), LAST))
        assert said == [true_tokens(TOKENS)[-1], true_tokens((*TOKENS, 1))[-1]]
        again = [m for _, to, m in home.seen if isinstance(m, Step) and to == 3 and m.epoch > 1]
        spans = [(step.position, len(step.token_ids)) for step in again]
        assert spans == [(0, 18), (18, 4), (22, 3), (25, 1)]

    at_home(test, settings=CHUNKED, prompt_length=18, source=20)


def test_a_text_too_long_to_be_read_at_once_is_refused_before_a_session_is_opened():
    with pytest.raises(ContextOverflow, match=r"prompt has 21 tokens.*up to 20 at once"):
        at_home(None, prompt_length=21, source=20)
    assert longest_source(replace(SPEC, source=1 << 20, width=1024)) == 1 << 14  # of a frame
