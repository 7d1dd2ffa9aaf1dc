"""Real processes over real sockets, killed and frozen in mid-answer: the same text, or an error."""

import asyncio
import json
import logging
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

import process_house
import tiny
from manyhands.api.swarm_view import ServedModel, swarm_view
from manyhands.cli.console import Console
from manyhands.cli.status import status
from manyhands.cli.words import cost_of
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.errors import ManyhandsError, NoStandIn
from manyhands.launch.local import LocalPeer
from manyhands.node.mover import Followed
from manyhands.node.opened import Opened, open_model
from manyhands.plan.cost import MEMORY_SHARE, memory_bytes
from manyhands.store.builtin import STORYTELLER, folder_of
from process_house import (
    GREEDY,
    PATIENCE_S,
    SAMPLED,
    SETTINGS,
    Judge,
    ProcessHouse,
    house,
    ids,
    name_of,
    newest,
    second_owner,
    spoken,
    struck,
    until,
)

pytestmark = pytest.mark.timeout(300)
needs_stop = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows stops nobody")

MODELS, ENGINES = (STORYTELLER, "qwen3"), ("numpy", "torch")
TOKENS = 24
PROMPT = tuple(3 + (7 * n) % 300 for n in range(300))  # three chunks
MOST_NEAR_TIES = 1

KILLS = {
    (STORYTELLER, "numpy"): ((0, -1), (1, 12), (2, 23)),
    (STORYTELLER, "torch"): ((1, 1), (2, -1), (0, 17)),
    ("qwen3", "numpy"): ((2, 6), (0, 22), (1, -1)),
    ("qwen3", "torch"): ((0, 9), (1, 19), (2, 2)),
}
"""By model and engine: whose process is killed (see ProcessHouse.at), after how many tokens."""

QUICK_KILLS = [
    pytest.param(*case, marks=[pytest.mark.slow] * (case == ("qwen3", "torch"))) for case in KILLS
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens a model by its name and its engine's, in float32."""
    made = {}

    def open_one(model: str, engine: str, settings: Settings = SETTINGS) -> Opened:
        if model not in made and model == STORYTELLER:
            folder = tmp_path_factory.mktemp("models") / model
            made[model] = shutil.copytree(folder_of(model), folder)  # it may be trained meanwhile
        elif model not in made:
            made[model] = tiny.make(model, tmp_path_factory.mktemp(model))
        dtype = "fp32" if engine == "torch" else "auto"
        return open_model(made[model], settings, engine=engine, dtype=dtype)

    return open_one


async def check_kills(made: ProcessHouse, points, tokens: int) -> None:
    """Kill at each of `points`, one an answer; every second text is sampled."""
    judge, texts = Judge(made.model), {}
    for number, (place, token) in enumerate(points):
        sampling = SAMPLED if number % 2 else GREEDY
        if sampling.seed not in texts:
            texts[sampling.seed] = await spoken(made.answer(PROMPT, tokens, sampling))
        killed: list[LocalPeer] = []

        def kill(place=place, killed=killed) -> None:
            killed.append(made.at(place))
            killed[0].kill()

        for after_s in (0.0007 * (number % 13), 0.0):  # at once where the answer is over by then
            said = await struck(made.answer(PROMPT, tokens, sampling), token, kill, after_s)
            judge.must_be_same(PROMPT, sampling, said, texts[sampling.seed])
            if killed:
                break
        await killed[0].process.wait()
        if number + 1 < len(points):
            await made.start(Span(killed[0].told["first"], killed[0].told["last"]))
            await made.settled()
    assert judge.near_ties <= MOST_NEAR_TIES


@pytest.mark.parametrize(("model", "engine"), QUICK_KILLS)
async def test_a_process_killed_at_some_tokens_changes_nothing(model, engine, opened, tmp_path):
    one = opened(model, engine)
    async with house(tmp_path, one, thirds(one)) as made:
        await check_kills(made, KILLS[model, engine], TOKENS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(("model", "engine"), KILLS)
async def test_a_process_killed_at_any_token_changes_nothing(
    model, engine, place, opened, tmp_path
):
    one = opened(model, engine)
    async with house(tmp_path, one, thirds(one)) as made:
        await check_kills(made, [(place, token) for token in range(-1, 100) if token], 100)


@needs_stop
@pytest.mark.parametrize(
    ("model", "engine", "places"),
    [
        (STORYTELLER, "numpy", (0, 1, 2)),
        pytest.param("qwen3", "torch", (1,), marks=pytest.mark.slow),
    ],
)
async def test_a_frozen_process_changes_nothing_nor_does_it_when_it_goes_on(
    model, engine, places, opened, tmp_path
):
    one = opened(model, engine)
    async with house(tmp_path, one, thirds(one)) as made:
        judge = Judge(made.model)
        for place in places:
            sampling = SAMPLED if place == 1 else GREEDY
            text = await spoken(made.answer(PROMPT, TOKENS, sampling))
            answer, frozen = made.answer(PROMPT, TOKENS, sampling), []
            async for _ in answer.pieces():
                if len(answer.tokens) == 8:
                    frozen.append(made.at(place))
                    frozen[0].freeze()
                if answer.recovered_s and len(frozen) == 1:
                    frozen[0].thaw()  # it still has a step of the old epoch to say
                    frozen.append(frozen[0])
                    await asyncio.sleep(0.2)
            assert len(frozen) == 2, "it went on without the frozen one, or never froze"
            judge.must_be_same(PROMPT, sampling, ids(answer), text)
            again = await spoken(made.answer(PROMPT, TOKENS, sampling))
            judge.must_be_same(PROMPT, sampling, again, text)
        assert judge.near_ties <= MOST_NEAR_TIES


async def test_a_loss_disturbs_only_the_owner_it_concerns(opened, tmp_path):
    """Two owners at once: first one process serves only one of them, then one serves both."""
    one = opened(STORYTELLER, "numpy")
    layers = len(one.model.spec.layers)
    halves = Span(0, layers // 2), Span(layers // 2, layers)
    async with house(tmp_path, one, halves) as made, another(tmp_path, made, one) as node:
        judge, text = Judge(made.model), await spoken(made.answer(PROMPT, TOKENS))
        first = made.answer(PROMPT, TOKENS)
        first_pieces = first.pieces()
        await anext(first_pieces)
        whole = await made.start(Span(0, layers))
        await made.settled()
        await made.settled(node)
        second = made.answer(PROMPT, TOKENS, owner=node.owner)
        second_pieces = second.pieces()
        await anext(second_pieces)
        assert newest(node.owner).route.peers() == (whole.told["peer"],)
        whole.kill()
        await read_both(first_pieces, second_pieces)
        judge.must_be_same(PROMPT, GREEDY, ids(first), text)
        judge.must_be_same(PROMPT, GREEDY, ids(second), text)
        assert first.recovered_s == ()
        assert len(second.recovered_s) >= 1

        first, second = made.answer(PROMPT, TOKENS), made.answer(PROMPT, TOKENS, owner=node.owner)
        first_pieces, second_pieces = first.pieces(), second.pieces()
        await anext(first_pieces)
        await anext(second_pieces)
        shared = set(newest(made.node.owner).route.peers()) & set(newest(node.owner).route.peers())
        made.named(min(shared)).kill()
        await read_both(first_pieces, second_pieces)
        judge.must_be_same(PROMPT, GREEDY, ids(first), text)
        judge.must_be_same(PROMPT, GREEDY, ids(second), text)
        assert len(first.recovered_s) >= 1
        assert len(second.recovered_s) >= 1
        assert judge.near_ties <= MOST_NEAR_TIES


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
async def test_where_nobody_can_stand_in_there_is_an_error_in_time(sampling, opened, tmp_path):
    """The one that stays has no memory for what the lost one held; a newcomer mends it."""
    settings = Settings(context_limit=512, stand_in_wait_s=1.0)
    one = opened(STORYTELLER, "numpy")
    last = len(one.model.spec.layers)
    async with house(tmp_path, one, settings=settings) as made:
        lost = await made.start(Span(0, last - 1))
        await made.start(Span(last - 1, last), "--max-memory", "6M")
        await made.settled()
        text = await spoken(made.answer(PROMPT, TOKENS, sampling))
        answer = made.answer(PROMPT, TOKENS, sampling)
        began_s = time.monotonic()
        with pytest.raises(NoStandIn, match="nobody can hold all layers"):
            await struck(answer, 10, lost.kill)
        assert time.monotonic() - began_s < settings.recovery_deadline_s
        assert ids(answer) == text[: len(answer.tokens)]
        assert len(answer.tokens) >= 10
        await made.start(Span(0, last - 1))
        await made.settled()
        judge = Judge(made.model)
        again = await spoken(made.answer(PROMPT, TOKENS, sampling))
        judge.must_be_same(PROMPT, sampling, again, text)


async def test_an_answer_waits_for_a_newcomer_when_all_are_lost(opened, tmp_path):
    settings = Settings(
        context_limit=512, stand_in_wait_s=PATIENCE_S, recovery_deadline_s=PATIENCE_S
    )
    one = opened("qwen3", "numpy")
    layers = len(one.model.spec.layers)
    async with house(tmp_path, one, [Span(0, 4), Span(4, layers)], settings=settings) as made:
        text = await spoken(made.answer(PROMPT, TOKENS))
        answer = made.answer(PROMPT, TOKENS)
        async for _ in answer.pieces():
            if len(answer.tokens) == 10:
                for peer in made.peers.alive():
                    peer.kill()
                await made.start(Span(0, layers))
        judge = Judge(made.model)
        judge.must_be_same(PROMPT, GREEDY, ids(answer), text)
        assert len(answer.recovered_s) == 1


async def test_peers_free_what_a_killed_owner_had_and_answer_another(opened, tmp_path, caplog):
    caplog.set_level(logging.INFO, "manyhands.launch.local")
    one = opened(STORYTELLER, "numpy")
    async with house(tmp_path, one, thirds(one), "--verbose") as made:
        judge, text = Judge(made.model), await spoken(made.answer(PROMPT, TOKENS))
        owner = await role("own", tmp_path / "own", made.founding.door, one.folder, "numpy", "auto")
        owner.stdin.write(made.founding.founder.invite().text.encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(5):
                assert isinstance(json.loads(await owner.stdout.readline()), int)
        during = made.answer(PROMPT, TOKENS)

        said = await struck(during, 8, owner.kill)
        judge.must_be_same(PROMPT, GREEDY, said, text)
        assert during.recovered_s == ()
        await owner.wait()

        def freed() -> set[str]:
            said = re.findall(r"peer (\d): .*the lease of session \w+ ended", caplog.text)
            return set(said)

        await until(lambda: len(freed()) == 3, "the end of the lease at all three")
        async with another(tmp_path, made, one) as node:
            await made.settled(node)
            said = await spoken(made.answer(PROMPT, TOKENS, owner=node.owner))
            judge.must_be_same(PROMPT, GREEDY, said, text)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows names processes otherwise")
async def test_children_do_not_outlive_a_killed_parent(opened, tmp_path):
    folder = opened(STORYTELLER, "numpy").folder
    parent = await role("parent", tmp_path, folder)
    async with asyncio.timeout(PATIENCE_S):
        children = json.loads(await parent.stdout.readline())
    assert len(children) == 2
    assert all(is_running(pid) for pid in children)
    parent.kill()
    await parent.wait()
    await until(lambda: not any(map(is_running, children)), "the end of both children")


def thirds(one: Opened) -> tuple[Span, ...]:
    """The model's layers in three."""
    return process_house.even_cuts(len(one.model.spec.layers), 3)


def another(folder: Path, made: ProcessHouse, one: Opened):
    """A second owner in this process."""
    founding = made.founding
    return second_owner(folder / "another", str(founding.door), founding.founder.invite().text, one)


async def read_both(*pieces) -> None:
    """Both answers to their ends, at once."""

    async def read(some) -> None:
        async for _ in some:
            pass

    async with asyncio.TaskGroup() as tasks:
        for some in pieces:
            tasks.create_task(read(some))


async def role(name: str, *arguments: object) -> asyncio.subprocess.Process:
    """A process that plays a role of process_house."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        process_house.__file__,
        name,
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


def is_running(pid: int) -> bool:
    """False for one that has ended, whether or not its new parent has noticed."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
async def test_layers_move_between_processes_while_an_answer_goes_on(opened, tmp_path, capsys):
    """Two hold a half each; a third comes and is given the second one's: one answer sees it all."""
    one = opened("qwen3", "numpy")
    layers, memory = len(one.model.spec.layers), room_for_half(one)
    lower, upper, less = Span(0, layers // 2), Span(layers // 2, layers), Span(0, 2)
    async with house(tmp_path, one) as made:
        node, said = made.node, []
        for _ in range(2):
            await made.start(None, "--max-memory", str(memory))
            await made.settled()
        text = await spoken(made.answer(PROMPT, 200))
        node.follow(Followed(one.model.id, node.peer, 512, is_movable=False))
        node.replanner.told = said.append
        answer = made.answer(PROMPT, 200)
        async for _ in answer.pieces():
            await asyncio.sleep(0.15)  # somebody reads
            if len(answer.tokens) == 10:
                await made.start(None, "--max-memory", str(memory))
                await made.settled()
                names = [name_of(peer) for peer in made.peers.peers]
                assert newest(node.owner).route.peers() == (names[0], names[1])
                node.replanner.by_hand = {names[1]: less, names[2]: upper}
            moved = newest(node.owner).route.peers()
        assert names[1] not in moved
        judge = Judge(made.model)
        judge.must_be_same(PROMPT, GREEDY, ids(answer), text)
        assert answer.recovered_s == ()

        def held(name) -> list[tuple[Span, str]]:
            holdings = node.directory.swarm.peers[name].holdings
            return [(h.span, h.state) for h in holdings if h.state != "stored"]

        wanted = [[(span, "ready")] for span in (lower, less, upper)]
        await until(lambda: [held(name) for name in names] == wanted, f"all at its place: {said}")
        told = ServedModel(one.name, one.model.id, layers, 512, True, False, False)
        status(
            Console(as_json=False), Served(swarm_view(node.directory.swarm, node.peer, [told], 0))
        )
        shown = capsys.readouterr().out
        for span in (lower, less, upper):
            assert (
                "\u00b7" * span.first + "\u2588" * len(span) + "\u00b7" * (layers - span.last)
                in shown
            )
        assert said[0].startswith("moving layers ")
        assert len(said) == 1


def room_for_half(one: Opened) -> int:
    """Bytes that hold the larger half of a model with memory for 512 tokens, and no more."""
    spec, cost = one.model.spec, cost_of(one.model)
    half = len(spec.layers) // 2
    sizes = [memory_bytes(spec, span, 512, cost) for span in (Span(0, half), Span(half, 2 * half))]
    assert memory_bytes(spec, Span(0, half + 1), 512, cost) > max(sizes)
    return int(max(sizes) / MEMORY_SHARE) + 1


class Served:
    """A swarm's own view of itself, as its HTTP interface gives it."""

    url = "http://127.0.0.1:7700"

    def __init__(self, view) -> None:
        self._view = view

    def get(self, _path):
        return json.loads(json.dumps(self._view))

    def no_swarm(self):
        return ManyhandsError("that is no swarm")
