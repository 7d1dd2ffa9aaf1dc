"""Real processes over emulated links: 20 ms apart, cut off, parted and healed; the same text."""

import asyncio
import shutil

import pytest

from manyhands.node.opened import open_model
from manyhands.sim.emulator import Emulator
from manyhands.sim.shaping import Shape
from manyhands.store.builtin import STORYTELLER, folder_of
from process_house import GREEDY, PATIENCE_S, SETTINGS, Judge, even_cuts, house, ids, spoken

pytestmark = pytest.mark.timeout(300)

PROMPT = tuple(3 + (7 * n) % 300 for n in range(60))
TOKENS = 24
TRIP_S = 0.02
APART = Shape(TRIP_S / 2, 12.5e6)


@pytest.fixture
def opened(tmp_path):
    folder = shutil.copytree(folder_of(STORYTELLER), tmp_path / "model")
    return open_model(folder, SETTINGS, engine="numpy")


def name_in(made, peer) -> str:
    """What the emulated network calls a process."""
    return f"peer-{made.peers.peers.index(peer) + 1}"


async def disturbed(made, token: int, strike, mend=None) -> tuple[list[int], tuple[float, ...]]:
    """An answer's tokens and recoveries; `strike` after so many of them, `mend` some later."""
    answer = made.answer(PROMPT, TOKENS)
    async for _ in answer.pieces():
        if len(answer.tokens) == token:
            await strike()
        if mend is not None and len(answer.tokens) == token + 6:
            await mend()
    return ids(answer), answer.recovered_s


async def text_at(made) -> list[int]:
    """The undisturbed text; it took the round trips that it must."""
    began_s = asyncio.get_running_loop().time()
    text = await spoken(made.answer(PROMPT, TOKENS))
    stages = 3
    took_s = asyncio.get_running_loop().time() - began_s
    assert took_s >= (TOKENS - 1) * (stages + 1) * TRIP_S / 2
    return text


@pytest.mark.slow
async def test_a_swarm_answers_over_links_that_are_cut_parted_and_healed(opened, tmp_path):
    thirds = even_cuts(len(opened.model.spec.layers), 3)
    async with Emulator() as network, asyncio.timeout(2 * PATIENCE_S):
        await network.shape(APART)
        async with house(tmp_path, opened, thirds, network=network) as made:
            judge, text = Judge(made.model), await text_at(made)

            async def cut() -> None:
                assert await network.cut("peer-1", "peer-2")

            said, _ = await disturbed(made, 8, cut)
            judge.must_be_same(PROMPT, GREEDY, said, text)

            async def part() -> None:
                await network.part(name_in(made, made.at(1)))

            said, recovered_s = await disturbed(made, 8, part, network.heal)
            judge.must_be_same(PROMPT, GREEDY, said, text)
            assert len(recovered_s) >= 1
            await network.heal()

            await made.settled()
            judge.must_be_same(PROMPT, GREEDY, await spoken(made.answer(PROMPT, TOKENS)), text)
            assert judge.near_ties <= 1
