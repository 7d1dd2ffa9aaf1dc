"""Pieces from several givers: shared out, verified, taken from the silent and the slow, resumed."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace

import pytest

import tiny
from manyhands.domain.ids import ModelId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.errors import CheckpointError, PeerLied, PeerLost, ResourceError
from manyhands.net.memory import Path
from manyhands.node.fetching import WINDOW_BLOCKS
from manyhands.node.obtaining import fetched_folder
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.fetched import FetchedFolder
from pieces_house import LAN, PIECE_BYTES, Liar, in_pieces_house, whole

SPAN = Span(2, 5)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.make("llama-sharded", tmp_path_factory.mktemp("models") / "little")


def all_of(folder: FetchedFolder) -> range:
    return range(len(folder.table))


def same_files(one, other) -> bool:
    names = [entry.name for entry in FetchedFolder.open(other).manifest.files]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_a_peer_that_knows_only_the_id_gets_its_span_and_no_more(source, tmp_path):
    original = Checkpoint.open(source)
    model = original.identity()

    async def test(house):
        folder = await fetched_folder(house.fetcher, model, tmp_path)
        heads = sum(house.given)
        opened = Checkpoint.open(folder)
        assert opened.identity() == model
        assert opened.spec == original.spec
        opened.check()
        assert opened.stored() == ()
        here = opened.fetched
        pieces = here.table.of_ranges(opened.ranges(SPAN))
        due = here.table.size_bytes(pieces - here.had)
        await house.fetcher.fetch(here, pieces)
        assert opened.digest(SPAN) == original.digest(SPAN)
        assert any(stored.covers(SPAN) for stored in opened.stored())
        assert sum(house.given) == heads + due
        with pytest.raises(CheckpointError, match="not fetched yet"):
            opened.digest(Span(0, 1))
        # offline: everything is here, and nobody is asked
        for number in range(1, len(house.nodes)):
            house.kill(number)
        again = Checkpoint.open(await fetched_folder(house.fetcher, model, tmp_path))
        await house.fetcher.fetch(again.fetched, pieces)
        assert again.digest(SPAN) == original.digest(SPAN)

    in_pieces_house(test, [whole(source)])


def test_several_givers_each_give_what_the_others_do_not(source, tmp_path):
    async def test(house):
        folder = await house.created(tmp_path / "m", whole(source).model)
        told = []
        await house.fetcher.fetch(folder, all_of(folder), told.append)
        total = folder.table.size_bytes(all_of(folder))
        assert sum(told) == total
        assert sum(house.given) < 1.1 * total
        assert min(house.given) > total / 6
        assert same_files(source, tmp_path / "m")

    in_pieces_house(test, [whole(source) for _ in range(3)])


def test_one_flipped_bit_in_any_piece_is_caught_and_its_sender_named(source, tmp_path, caplog):
    chance = random.Random(1)
    count = len(_table(source))

    async def test(house):
        liar = house.nodes[1].peer
        folder = await house.created(tmp_path / "m", whole(source).model)
        for number in range(count):
            piece = folder.table[number]
            bits.clear()
            bits[number] = chance.randrange(8 * piece.size_bytes)
            caplog.clear()
            with pytest.raises(PeerLied, match=f"peer {liar[:8]}: piece {number} "):
                await house.fetcher.fetch(folder, [number])
            assert number not in folder.had
            assert f"peer {liar[:8]} piece {number}" in caplog.text
            bits.clear()  # it can be had all the same, from an honest one
            await house.fetcher.fetch(folder, [number])
            assert number in folder.had
        assert same_files(source, tmp_path / "m")

    bits: dict[int, int] = {}
    settings = Settings(fetch_wait_s=0.3)
    with caplog.at_level(logging.WARNING):
        in_pieces_house(test, [Liar(whole(source), bits)], settings=settings)


def test_a_liar_among_honest_givers_is_dropped_and_the_fetch_goes_on(source, tmp_path):
    async def test(house):
        folder = await house.created(tmp_path / "m", whole(source).model)
        await house.fetcher.fetch(folder, all_of(folder))
        assert same_files(source, tmp_path / "m")
        assert house.given[0] < house.given[1]

    bits = dict.fromkeys(range(0, 500, 3), 5)
    in_pieces_house(test, [Liar(whole(source), bits), whole(source)])


def _table(source):
    shelf = whole(source)
    while not shelf.prepare():
        pass
    return shelf._ready()


def test_a_giver_that_falls_silent_or_dies_is_left_behind(source, tmp_path):
    async def test(house):
        me, dumb = (node.peer for node in house.nodes[:2])
        folder = await house.created(tmp_path / "m", whole(source).model)
        came = []

        def told(size):
            came.append(size)
            if len(came) == 5:
                house.network.cut(dumb, me)
            if len(came) == 10:
                house.kill(2)

        began_s = asyncio.get_running_loop().time()
        await house.fetcher.fetch(folder, all_of(folder), told)
        assert same_files(source, tmp_path / "m")
        assert asyncio.get_running_loop().time() - began_s < 8

    in_pieces_house(test, [whole(source) for _ in range(3)])


def test_a_slow_giver_is_not_waited_for(source, tmp_path):
    async def test(house):
        slow = house.nodes[1].peer
        house.network.set_path(slow, house.nodes[0].peer, Path(0.01, 20e3))
        folder = await house.created(tmp_path / "m", whole(source).model)
        began_s = asyncio.get_running_loop().time()
        await house.fetcher.fetch(folder, all_of(folder))
        took_s = asyncio.get_running_loop().time() - began_s
        assert same_files(source, tmp_path / "m")
        # alone it would need this long for its window
        assert took_s < WINDOW_BLOCKS * PIECE_BYTES / 20e3

    in_pieces_house(test, [whole(source), whole(source)])


def test_interrupted_fifty_times_at_random_and_resumed_it_is_whole(source, tmp_path):
    chance = random.Random(7)

    async def test(house):
        target = tmp_path / "m"
        folder = await house.created(target, whole(source).model)
        total = folder.table.size_bytes(all_of(folder))
        began_s = asyncio.get_running_loop().time()
        await house.fetcher.fetch(await house.created(tmp_path / "n", folder.model), all_of(folder))
        usual_s = asyncio.get_running_loop().time() - began_s
        before, kept = sum(house.given), 0
        for _ in range(50):
            folder = FetchedFolder.open(target)  # as after a restart
            assert len(folder.had) >= kept
            kept = len(folder.had)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(chance.uniform(0, usual_s / 30)):
                    await house.fetcher.fetch(folder, all_of(folder))
        folder = FetchedFolder.open(target)
        assert 0 < len(folder.had) < len(folder.table)
        await house.fetcher.fetch(folder, all_of(folder))
        assert same_files(source, target)
        # what was on its way is asked for again, never what was kept
        assert sum(house.given) - before < total + 51 * WINDOW_BLOCKS * PIECE_BYTES

    in_pieces_house(test, [whole(source)], path=replace(LAN, rate_bytes_per_s=2e6))


def test_what_does_not_fit_is_said_before_anything_is_written(source, tmp_path):
    async def test(house):
        folder = await house.created(tmp_path / "m", whole(source).model)
        with pytest.raises(ResourceError, match=r"fetched_bytes.*remove a model"):
            await house.fetcher.fetch(folder, all_of(folder))
        assert FetchedFolder.open(tmp_path / "m").had == set()
        assert sum(house.given) == 0

    in_pieces_house(test, [whole(source)], settings=Settings(fetched_bytes=1 << 16))


class Hashing:
    """A shelf whose files take some seconds to hash."""

    def __init__(self, shelf, calls: int) -> None:
        self._shelf, self._calls = shelf, calls

    def __getattr__(self, name):
        return getattr(self._shelf, name)

    def prepare(self):
        self._calls -= 1
        return self._calls < 0 and self._shelf.prepare()


def test_a_giver_that_must_hash_its_files_first_is_waited_for(source, tmp_path):
    async def test(house):
        folder = await house.created(tmp_path / "m", whole(source).model)
        asked = []

        async def elsewhere(origin, piece):
            asked.append(piece)

        house.fetcher.elsewhere = elsewhere
        house.nodes[1].seeder.offer(Hashing(whole(source), 60_000))  # it was started anew
        began_s = asyncio.get_running_loop().time()
        await house.fetcher.fetch(folder, all_of(folder))
        assert asyncio.get_running_loop().time() - began_s > 5
        assert same_files(source, tmp_path / "m")
        assert asked == []

    in_pieces_house(test, [Hashing(whole(source), 40_000)], settings=Settings(fetch_wait_s=2.0))


def test_without_anybody_who_has_the_files_it_is_said(source, tmp_path):
    async def test(house):
        with pytest.raises(PeerLost, match="none of the 2 peers here has the files"):
            await house.fetcher.manifest(ModelId("ab" * 32))

    in_pieces_house(test, [whole(source), None], settings=Settings(fetch_wait_s=2.0))


def test_who_says_other_files_than_most_is_not_asked(source, tmp_path, caplog):
    other = tiny.make("llama-sharded", tmp_path / "other", seed=1)
    model = whole(source).model
    forged = whole(other)
    forged.model = model

    async def test(house):
        folder = await house.created(tmp_path / "m", model)
        await house.fetcher.fetch(folder, all_of(folder))
        assert same_files(source, tmp_path / "m")
        assert house.given[0] == 0
        assert f"peer {house.nodes[1].peer[:8]} has other files" in caplog.text

    in_pieces_house(test, [forged, whole(source), whole(source)])
