"""Real peers whose user comes back, that leave, and that sleep: the same text, and no fault."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time

import pytest

from manyhands.domain.ids import PeerId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.node.opened import open_model
from manyhands.store.builtin import STORYTELLER, folder_of
from process_house import GREEDY, Judge, ProcessHouse, house, name_of, newest, spoken, until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]
SETTINGS = Settings(context_limit=512)
PROMPT = tuple(3 + (7 * n) % 300 for n in range(40))
TOKENS = 60
NAP_S = 11.0


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = shutil.copytree(folder_of(STORYTELLER), tmp_path_factory.mktemp("models") / "model")
    return open_model(folder, SETTINGS, engine="numpy")


def halves(one) -> tuple[Span, Span]:
    layers = len(one.model.spec.layers)
    return Span(0, layers // 2), Span(layers // 2, layers)


def record(made: ProcessHouse, name: PeerId):
    """What the owner knows of a peer."""
    return made.node.directory.swarm.peers.get(name)


async def at_token(made: ProcessHouse, count: int, act) -> list[int]:
    """All tokens of an answer; `act` is called after `count` of them."""
    answer = made.answer(PROMPT, TOKENS)
    async for _ in answer.pieces():
        if len(answer.tokens) == count:
            act()
    return [token.id for token in answer.tokens]


async def test_input_moves_the_answer_elsewhere_and_the_peer_comes_back(opened, tmp_path):
    first, second = halves(opened)
    typed = tmp_path / "typed"
    typed.touch()
    os.utime(typed, (1, 1))
    idle = ("--when", "idle", "--idle-from", f"file:{typed}", "--idle-after", "4s")
    async with house(tmp_path, opened, [second]) as made:
        mine = await made.start(first, *idle)
        await made.settled()
        judge, text = Judge(made.model), await spoken(made.answer(PROMPT, TOKENS))
        await made.start(first)  # who stands in
        await made.settled()
        name = name_of(mine)
        answer = made.answer(PROMPT, TOKENS)
        async for _ in answer.pieces():
            if len(answer.tokens) == 5:  # whoever answers now is disturbed if it is the idle one
                typed.touch()
            if len(answer.tokens) >= 5:
                await asyncio.sleep(0.05)  # so that it is seen in mid-answer
        judge.must_be_same(PROMPT, GREEDY, [token.id for token in answer.tokens], text)
        assert name not in newest_peers(made)
        assert record(made, name).paused == "user"
        await until(lambda: not record(made, name).paused, "the end of the pause")
        assert {held.state for held in record(made, name).holdings} >= {"ready"}


def newest_peers(made: ProcessHouse) -> set[PeerId]:
    sessions = made.node.owner._sessions
    return set() if not sessions else set(newest(made.node.owner).route.peers())


async def test_who_is_told_to_leave_hands_its_sessions_over(opened, tmp_path):
    first, second = halves(opened)
    async with house(tmp_path, opened, [first, second]) as made:
        judge, text = Judge(made.model), await spoken(made.answer(PROMPT, TOKENS))
        leaver = made.peers.peers[0]
        stand_in = await made.start(first)
        await made.settled()
        answer = made.answer(PROMPT, TOKENS)
        async for _ in answer.pieces():
            if len(answer.tokens) == 5:
                route = newest(made.node.owner).route
                leaver = made.named(route.stages[0].peer)
                stays = stand_in if leaver is made.peers.peers[0] else made.peers.peers[0]
                leaver.process.send_signal(signal.SIGTERM)
        judge.must_be_same(PROMPT, GREEDY, [token.id for token in answer.tokens], text)
        assert len(answer.recovered_s) == 1
        assert await leaver.process.wait() == 0
        assert stays.is_alive


async def test_who_nobody_can_replace_finishes_its_answer_first(opened, tmp_path):
    async with house(tmp_path, opened, halves(opened)) as made:
        judge, text = Judge(made.model), await spoken(made.answer(PROMPT, TOKENS))
        leaver = made.peers.peers[1]
        said = await at_token(made, 5, lambda: leaver.process.send_signal(signal.SIGTERM))
        judge.must_be_same(PROMPT, GREEDY, said, text)
        assert await leaver.process.wait() == 0


async def test_a_second_signal_ends_it_at_once(opened, tmp_path):
    async with house(tmp_path, opened, [halves(opened)[0]]) as made:
        await made.start(halves(opened)[1])
        await made.settled()
        leaver = made.peers.peers[1]

        def strike() -> None:
            leaver.process.send_signal(signal.SIGTERM)

        answer = made.answer(PROMPT, TOKENS)
        async for _ in answer.pieces():
            if len(answer.tokens) == 5:
                strike()
                await until(lambda: record(made, name_of(leaver)).paused, "the word", 0.01)
                strike()
                began_s = time.monotonic()
                assert await leaver.process.wait() == 130
                assert time.monotonic() - began_s < 5.0
                await made.start(halves(opened)[1])
        assert len(answer.tokens) == TOKENS


@pytest.mark.slow
async def test_who_slept_comes_back_by_itself_with_its_spans(opened, tmp_path):
    first, second = halves(opened)
    async with house(tmp_path, opened, [first, second], "--verbose") as made:
        judge, text = Judge(made.model), await spoken(made.answer(PROMPT, TOKENS))
        sleeper = made.peers.peers[0]
        name = name_of(sleeper)
        stand_in = await made.start(first)
        await made.settled()
        answer = made.answer(PROMPT, TOKENS)
        async for _ in answer.pieces():
            if len(answer.tokens) == 5:
                sleeper.freeze()
        judge.must_be_same(PROMPT, GREEDY, [token.id for token in answer.tokens], text)
        await asyncio.sleep(NAP_S)
        before = record(made, name)
        sleeper.thaw()
        await until(lambda: is_back(made, name, before), "the sleeper")
        stand_in.kill()
        await stand_in.process.wait()
        again = await spoken(made.answer(PROMPT, TOKENS))
        judge.must_be_same(PROMPT, GREEDY, again, text)


def is_back(made: ProcessHouse, name: PeerId, before) -> bool:
    now = record(made, name)
    is_newer = now is not None and (before is None or now.sequence > before.sequence)
    return is_newer and any(held.state == "ready" for held in now.holdings)
