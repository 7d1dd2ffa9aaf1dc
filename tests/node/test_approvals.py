"""Who waits for a person's word: in turns, for a time, and never more than can be looked at."""

from __future__ import annotations

import asyncio

import pytest

from manyhands.errors import DeadlinePassed, PeerError, UserError
from manyhands.node.approvals import MOST_ASKING, Approvals
from small_swarms import peer_id

BEN, CLEO = peer_id(1), peer_id(2)


class Hour:
    """A clock of our choice."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def outcome(judged) -> Exception | None:
    try:
        await judged
    except PeerError as error:
        return error
    return None


async def test_a_word_is_for_the_device_that_shows_the_code():
    approvals = Approvals(Hour(), 60.0)
    async with asyncio.TaskGroup() as tasks:
        ben = tasks.create_task(outcome(approvals.judged(BEN, "laptop-ben", "111-111")))
        cleo = tasks.create_task(outcome(approvals.judged(CLEO, "desk", "222-222")))
        await turns()
        assert [one.name for one in approvals.waiting()] == ["laptop-ben", "desk"]
        assert approvals.answer("222-222", is_welcome=True).peer == CLEO
        assert await cleo is None
        assert not ben.done()
        approvals.answer("111-111", is_welcome=False)
        assert "said no" in str(await ben)
    assert approvals.waiting() == ()


async def test_a_word_counts_once_and_for_a_code_that_is_shown():
    approvals = Approvals(Hour(), 60.0)
    with pytest.raises(UserError, match="somebody stands between"):
        approvals.answer("111-111", is_welcome=True)
    async with asyncio.TaskGroup() as tasks:
        ben = tasks.create_task(outcome(approvals.judged(BEN, "ben", "111-111")))
        await turns()
        approvals.answer("111-111", is_welcome=False)
        with pytest.raises(UserError):
            approvals.answer("111-111", is_welcome=True)
        assert await ben is not None


async def test_silence_is_a_no_after_the_deadline():
    with pytest.raises(DeadlinePassed, match=r"nobody approved .*hands approve CODE"):
        await Approvals(Hour(), 0.01).judged(BEN, "ben", "111-111")


async def test_who_leaves_waits_no_more_and_watchers_hear_of_both():
    approvals = Approvals(Hour(), 60.0)
    async with asyncio.TaskGroup() as tasks:
        for step in ("comes", "leaves"):
            changed = tasks.create_task(approvals.changed())
            await turns()
            assert not changed.done()
            if step == "comes":
                ben = tasks.create_task(approvals.judged(BEN, "ben", "111-111"))
            else:
                ben.cancel()
            await changed
            assert len(approvals.waiting()) == (step == "comes")


async def test_two_of_one_code_cannot_wait_at_once():
    approvals = Approvals(Hour(), 60.0)
    async with asyncio.TaskGroup() as tasks:
        ben = tasks.create_task(approvals.judged(BEN, "ben", "111-111"))
        await turns()
        with pytest.raises(PeerError, match="same code"):
            await approvals.judged(CLEO, "cleo", "111-111")
        approvals.answer("111-111", is_welcome=True)
        await ben


def test_a_place_stays_taken_until_its_time_is_over_whoever_leaves():
    clock = Hour()
    approvals = Approvals(clock, 60.0)
    for _ in range(MOST_ASKING):
        approvals.take_place()
        clock.now_s += 1
    with pytest.raises(PeerError, match=r"try again in 52 s"):
        approvals.take_place()
    clock.now_s = 60.0
    approvals.take_place()
    with pytest.raises(PeerError):
        approvals.take_place()
