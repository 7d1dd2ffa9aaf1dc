"""A house and a hub: the second peer costs the hub nothing; the hub gives what nobody here does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

import tiny
from hub_house import COMMIT, hub_house
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.errors import CheckpointError
from manyhands.node.obtaining import fetched_folder
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.hub import Hub
from manyhands.store.pieces import WholeFolder
from pieces_house import LAN, PIECE_BYTES, in_pieces_house

UPPER = Span(3, 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.make("llama-sharded", tmp_path_factory.mktemp("models") / "little")


def downloaded(hub: Hub) -> WholeFolder:
    """The first peer's shelf: it got the model from the hub."""
    checkpoint = Checkpoint.open(hub.folder("owner/little"))
    return WholeFolder(checkpoint, checkpoint.identity(), PIECE_BYTES)


def asks(house, hub: Hub) -> None:
    """The fetching peer may ask the hub, on the very thread of the test."""

    async def elsewhere(origin, piece):
        await asyncio.sleep(0)
        return hub.read(origin, piece.file, piece.first, piece.last)

    house.fetcher.elsewhere = elsewhere


def test_a_second_peers_span_costs_the_hub_no_byte(source, tmp_path):
    with hub_house(source) as server:
        hub = Hub(server.url, tmp_path / "cache")
        first = downloaded(hub)
        before = server.given_bytes

        async def test(house):
            asks(house, hub)
            opened = Checkpoint.open(await fetched_folder(house.fetcher, first.model, tmp_path))
            here = opened.fetched
            await house.fetcher.fetch(here, here.table.of_ranges(opened.ranges(UPPER)))
            assert opened.digest(UPPER) == Checkpoint.open(source).digest(UPPER)
            assert here.origin == f"owner/little@{COMMIT}"
            assert server.given_bytes - before == 0
            assert sum(house.given) > 0

        in_pieces_house(test, [first])


def test_what_nobody_here_gives_any_more_comes_from_the_hub_and_no_more_than_that(source, tmp_path):
    with hub_house(source) as server:
        hub = Hub(server.url, tmp_path / "cache")
        first = downloaded(hub)
        before = server.given_bytes

        async def test(house):
            asks(house, hub)
            opened = Checkpoint.open(await fetched_folder(house.fetcher, first.model, tmp_path))
            here = opened.fetched
            wanted = here.table.of_ranges(opened.ranges(UPPER))
            left = []

            def told(size):
                left.append(size)
                if len(left) == 20:
                    house.kill(1)

            due = here.table.size_bytes(wanted - here.had)
            await house.fetcher.fetch(here, wanted, told)
            assert opened.digest(UPPER) == Checkpoint.open(source).digest(UPPER)
            assert 0 < server.given_bytes - before <= due - sum(left[:20])

        in_pieces_house(test, [first], path=replace(LAN, rate_bytes_per_s=5e6))


def test_a_hub_that_has_other_files_by_now_is_not_believed(source, tmp_path):
    other = tiny.make("llama-sharded", tmp_path / "other", seed=1)
    with hub_house(source) as server:
        hub = Hub(server.url, tmp_path / "cache")
        first = downloaded(hub)
        server.folder = other

        async def test(house):
            asks(house, hub)
            opened = Checkpoint.open(await fetched_folder(house.fetcher, first.model, tmp_path))
            house.kill(1)
            here = opened.fetched
            with pytest.raises(CheckpointError, match="is another one at owner/little@"):
                await house.fetcher.fetch(here, range(len(here.table)))

        in_pieces_house(test, [first], settings=Settings(fetch_wait_s=20.0))
