"""Giving follows the machine: sessions move to others when it stops, and it comes back."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from manyhands.domain.giving import Limits, Surroundings
from manyhands.domain.messages import LinkLost, Refused, Step
from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling, Want
from manyhands.errors import NoStandIn, PeerPaused
from manyhands.node.giving import LOOK_EVERY_S, Giving
from session_house import at_home, true_text

PROMPT = (3, 1, 4, 1, 5)
IDLE = Limits(when="idle", idle_after_s=5.0)


class Person:
    """Somebody who may use a machine: `types` is an input now."""

    def __init__(self) -> None:
        self.last_s = -1e3

    def types(self) -> None:
        self.last_s = now_s()

    async def look(self) -> Surroundings:
        return Surroundings(idle_s=now_s() - self.last_s)


def now_s() -> float:
    return asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def giving(home, number: int, person: Person, limits: Limits = IDLE):
    """A member gives within limits meanwhile: it, and what is told of it."""
    told: list[str] = []
    made = Giving(home.fleet.nodes[number], limits, person.look, told.append)
    running = home.fleet.spawn(made.run())
    try:
        yield made, told
    finally:
        running.cancel()


async def speak(home, tokens: list[int], count: int) -> None:
    """Go on greedily by so many tokens."""
    for _ in range(count):
        fresh = tokens[home.session.length :]
        (result,) = await home.session.run(fresh, Want())
        tokens.append(result.tokens[0])


def record(home, number: int, of: int = 0):
    """What member `of` knows of another."""
    return home.fleet.nodes[of].directory.swarm.peers[home.fleet.peer(number)]


def test_input_moves_a_session_within_a_second_and_the_text_stays_true():
    async def test(home):
        person = Person()
        async with giving(home, 1, person) as (_, told):
            tokens = list(PROMPT)
            await speak(home, tokens, 4)
            person.types()
            await asyncio.sleep(LOOK_EVERY_S + 0.1)
            assert home.of(Refused)
            assert told == ["user"]
            await speak(home, tokens, 1)  # its first step goes to the old route, in vain
            home.seen.clear()
            await speak(home, tokens, 6)
            assert tokens[len(PROMPT) :] == true_text(PROMPT, len(tokens) - len(PROMPT))
            assert not home.of(Step, target=1)
            assert home.of(Step, target=3)
            assert not home.of(LinkLost)
            assert record(home, 1).paused == "user"
            assert {held.state for held in record(home, 1).holdings} == {"draining"}

    at_home(test)


def test_it_gives_again_once_nobody_has_typed_for_as_long_as_was_said():
    async def test(home):
        person = Person()
        async with giving(home, 1, person) as (_, told):
            for _ in range(3):  # each input begins the wait anew
                person.types()
                await asyncio.sleep(4.0)
            assert told == ["user"]
            await asyncio.sleep(2.0)
            assert told == ["user", ""]
            assert record(home, 1).paused == ""
            assert any(held.state == "ready" for held in record(home, 1).holdings)

    at_home(test)


def test_a_session_that_nobody_else_can_take_waits_until_the_user_has_gone():
    async def test(home):
        home.fleet.kill(3)
        person = Person()
        async with giving(home, 1, person):
            tokens = list(PROMPT)
            await speak(home, tokens, 3)
            person.types()
            await asyncio.sleep(1.0)
            began_s = now_s()
            await speak(home, tokens, 3)
            assert 3.0 < now_s() - began_s < 9.0
            assert tokens[len(PROMPT) :] == true_text(PROMPT, 6)

    at_home(test)


def test_and_is_told_why_where_that_takes_too_long():
    async def test(home):
        home.fleet.kill(3)
        person = Person()
        async with giving(home, 1, person, replace(IDLE, idle_after_s=600.0)):
            person.types()
            await asyncio.sleep(1.0)
            with pytest.raises(PeerPaused, match="somebody uses it; let another device join"):
                await home.session.run(PROMPT, Want())

    at_home(test, settings=Settings(stand_in_wait_s=2.0))


def test_who_leaves_hands_over_and_breaks_no_answer():
    async def test(home):
        async with giving(home, 1, Person(), Limits()) as (made, _):
            tokens = list(PROMPT)

            async def leave() -> None:
                await asyncio.sleep(0.05)
                began_s = now_s()
                await made.leave(lambda _: pytest.fail("nobody had to wait"))
                assert now_s() - began_s < 1.5
                assert home.fleet.nodes[1].worker.of_others() == []
                home.fleet.kill(1)

            leaving = home.fleet.spawn(leave())
            await speak(home, tokens, 40)
            await leaving
            assert tokens[len(PROMPT) :] == true_text(PROMPT, 40)
            assert not home.of(LinkLost)

    at_home(test)


def test_who_leaves_finishes_what_nobody_else_can_and_begins_nothing():
    async def test(home):
        home.fleet.kill(3)
        async with giving(home, 1, Person(), Limits()) as (made, _):
            waiting: list[int] = []
            tokens = list(PROMPT)
            await speak(home, tokens, 3)
            leaving = home.fleet.spawn(made.leave(waiting.append))
            await speak(home, tokens, 20)
            assert waiting == [1]
            assert not leaving.done()
            assert not home.of(Refused)
            await asyncio.sleep(10.0)
            assert leaving.done()  # nothing was asked of it for a while
            assert tokens[len(PROMPT) :] == true_text(PROMPT, 23)
            with pytest.raises(NoStandIn, match="gives nothing: it is leaving"):
                await home.fleet.nodes[0].owner.open(home.fleet.model, Sampling(), 0)

    at_home(test, settings=Settings(stand_in_wait_s=1.0))
