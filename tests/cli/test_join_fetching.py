"""`hands join` without the model's folder: a real process gets its span from the swarm."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace

import pytest
from test_join import LAYERS, joining, refused

import tiny
from founding_house import SETTINGS, founding, small
from manyhands.domain.span import Span
from manyhands.node.fetching import WINDOW_BLOCKS
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.fetched import FetchedFolder
from pieces_house import PIECE_BYTES, whole

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make("llama-sharded", tmp_path_factory.mktemp("models") / "little")


class Slow:
    """A shelf that takes its time for each block."""

    def __init__(self, shelf, block_s: float) -> None:
        self._shelf, self._block_s = shelf, block_s

    def __getattr__(self, name):
        return getattr(self._shelf, name)

    def read(self, number, first, last):
        time.sleep(self._block_s)
        return self._shelf.read(number, first, last)


def given(folder, block_s: float = 0.0):
    """The model as a founder opens it, given in small pieces."""
    opened = small(folder)
    return replace(opened, model=replace(opened.model, shelf=Slow(whole(folder), block_s)))


def fetched_in(home) -> FetchedFolder | None:
    folders = [one for one in (home / "models").glob("*") if one.is_dir()]
    return FetchedFolder.open(folders[0]) if folders else None


async def test_a_joiner_without_the_folder_gets_its_span_and_the_next_one_from_both(
    folder, tmp_path
):
    # slow enough that the second one hears of the first before it has everything
    async with founding(tmp_path / "founder", given(folder, 0.03)) as swarm:
        await swarm.hold(Span(0, 5))
        invites = [swarm.founder.invite().text for _ in range(2)]
        span = "--span", f"5:{LAYERS}"
        async with joining(tmp_path / "one", swarm.door, "--invite", invites[0], *span) as one:
            ready = await one.event("ready")
            assert (ready["first"], ready["last"]) == (5, LAYERS)
            loading = next(event for event in one.events if event["event"] == "loading")
            assert loading["model"] == "little"
            seeder = swarm.node.seeder
            whole_bytes = sum(file.stat().st_size for file in folder.iterdir())
            assert loading["fetch_bytes"] <= seeder.given_bytes < 0.8 * whole_bytes
            answer = swarm.speaker.answer("Many hands", 8)
            async for _ in answer.pieces():
                pass
            assert answer.tokens
            # what it has it gives: a second one asks both
            before = seeder.given_bytes
            words = (swarm.door, "--invite", invites[1], *span)
            async with joining(tmp_path / "two", *words) as two:
                await two.event("ready")
                assert seeder.given_bytes - before < loading["fetch_bytes"]
                await two.told(signal.SIGTERM)
            await one.told(signal.SIGTERM)
        # it comes back and needs nothing of anybody
        before = seeder.given_bytes
        async with joining(tmp_path / "one", swarm.door, *span) as one:
            await one.event("ready")
            assert seeder.given_bytes == before
            await one.told(signal.SIGTERM)


@pytest.mark.slow
async def test_a_joiner_that_is_killed_again_and_again_goes_on_where_it_was(folder, tmp_path):
    home, source = tmp_path / "home", Checkpoint.open(folder)
    async with founding(tmp_path / "founder", given(folder, 0.01)) as swarm:
        seeder, words = swarm.node.seeder, (swarm.door, "--span", f"0:{LAYERS}")
        invite = swarm.founder.invite().text
        kept, kills = 0, 4
        for number in range(kills):
            more = seeder.given_bytes + 25 * PIECE_BYTES
            extra = () if number else ("--invite", invite)
            async with joining(home, *words, *extra) as one:
                async with asyncio.timeout(60):
                    while seeder.given_bytes < more:
                        assert one.process.returncode is None
                        await asyncio.sleep(0.005)
                one.process.kill()
            here = fetched_in(home)
            assert here is not None
            assert len(here.had) > kept
            kept = len(here.had)
        async with joining(home, *words) as one:
            await one.event("ready")
            await one.told(signal.SIGINT)
        here = fetched_in(home)
        opened = Checkpoint.open(here.folder)
        assert opened.digest(opened.spec.span) == source.digest(source.spec.span)
        total = here.table.size_bytes(here.had)
        assert seeder.given_bytes < total + (kills + 1) * (WINDOW_BLOCKS + 1) * PIECE_BYTES


async def test_a_joiner_without_the_disk_for_it_is_told_before_anything_comes(folder, tmp_path):
    home = tmp_path / "home"
    async with founding(tmp_path / "founder", given(folder), SETTINGS) as swarm:
        words = (swarm.door, "--invite", swarm.founder.invite().text, "--disk", "64k")
        code, error, said = await refused(home, *words)
        assert (code, error) == (3, "resource")
        assert "--disk" in said
        assert swarm.node.seeder.given_bytes == 0
