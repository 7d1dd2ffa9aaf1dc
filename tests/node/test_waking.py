"""A machine that slept begins anew with the others by itself, whichever clock stood still."""

from __future__ import annotations

import asyncio

import pytest

from manyhands.domain.work import Want
from manyhands.node.waking import LOOK_EVERY_S, SLEPT_S, Waking
from session_house import at_home, true_text

PROMPT = (3, 1, 4)


class WallClock:
    """The loop's time and what passed while it stood still."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s


async def slept(home, seconds: float) -> list[float]:
    """Member 1 sleeps with its clock; how long each sleep was that its node heard of."""
    node, wall_clock, heard = home.fleet.nodes[1], WallClock(), []
    woke = node.woke

    def note(unseen_s: float) -> None:
        heard.append(unseen_s)
        woke(unseen_s)

    node.woke = note
    waking = Waking(node, asyncio.get_running_loop().time, wall_clock)
    running = home.fleet.spawn(waking.run())
    await asyncio.sleep(3 * LOOK_EVERY_S)
    wall_clock.ahead_s = seconds
    await asyncio.sleep(3 * LOOK_EVERY_S)
    running.cancel()
    return heard


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 0), (SLEPT_S / 2, 0), (600.0, 1)])
def test_a_sleep_is_told_once_and_a_pause_is_none(seconds, count):
    async def test(home):
        assert await slept(home, seconds) == [pytest.approx(seconds)] * count

    at_home(test)


def test_sessions_whose_lease_ran_out_meanwhile_are_freed_and_the_text_goes_on():
    async def test(home):
        (result,) = await home.session.run(PROMPT, Want())
        tokens = [*PROMPT, result.tokens[0]]
        node, peer = home.fleet.nodes[1], home.fleet.peer(1)
        assert node.worker.of_others()
        await slept(home, 600.0)
        assert not node.worker.of_others()
        assert peer in home.fleet.nodes[0].directory.swarm.peers
        for _ in range(4):
            (result,) = await home.session.run(tokens[home.session.length :], Want())
            tokens.append(result.tokens[0])
        assert tokens[3:] == true_text(PROMPT, 5)

    at_home(test)


def test_after_a_short_sleep_every_link_is_new_and_memory_is_kept():
    async def test(home):
        await home.session.run(PROMPT, Want())
        node = home.fleet.nodes[1]
        before = {id(channel.connection) for channel in node.peers._channels.values()}
        await slept(home, SLEPT_S + 5.0)
        after = {id(channel.connection) for channel in node.peers._channels.values()}
        assert not before & after
        assert node.worker.of_others()

    at_home(test)
