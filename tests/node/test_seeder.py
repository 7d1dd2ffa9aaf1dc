"""Who gives pieces: what is asked is answered once, in turns, and what cannot be is refused."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import tiny
from manyhands.domain.ids import ModelId
from manyhands.domain.manifest import ManifestId, PieceRun
from manyhands.domain.messages import AskBlock, AskPieces, Block, ManifestTold, NotGiven, PiecesHad
from manyhands.errors import PeerPaused
from manyhands.node.allowance import Allowance
from manyhands.node.seeder import BUSY, MOST_ASKED, READ_AT_A_TIME, Seeder
from manyhands.sim.virtual_loop import run_virtual
from node_cases import ANNA, BEN, RecordingLinks
from pieces_house import PIECE_BYTES, DiskOfTime, whole


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.make("llama-sharded", tmp_path_factory.mktemp("models") / "little")


WHY = PeerPaused("somebody uses it")


class House:
    """A running seeder; `name` is its manifest's once somebody asked."""

    def __init__(self, shelf) -> None:
        self.links = RecordingLinks()
        self.allowance = Allowance(asyncio.get_running_loop().time)
        self.seeder = Seeder(DiskOfTime(), self.links.send, self.allowance)
        self.shelf = shelf
        self.seeder.offer(shelf)

    async def settled(self) -> list:
        """What was sent since the last time, once nothing more comes."""
        await asyncio.sleep(1.0)
        return self.links.take()

    async def known(self) -> ManifestId:
        self.seeder.receive(ANNA, AskPieces(self.shelf.model, ""))
        return next(m.manifest for _, m in await self.settled() if isinstance(m, PiecesHad))


def in_house(test, source) -> None:
    async def main():
        house = House(whole(source))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(house.seeder.run())
            with contextlib.ExitStack() as last:
                last.callback(running.cancel)
                await test(house)

    run_virtual(main)


def test_who_asks_is_told_the_manifest_unless_it_knows_it(source):
    async def test(house):
        house.seeder.receive(ANNA, AskPieces(house.shelf.model, ""))
        busy, told, had = [message for _, message in await house.settled()]
        assert (type(busy), busy.code) == (NotGiven, BUSY)
        assert told == ManifestTold(house.shelf.manifest, "")
        name = told.manifest.digest()
        count = sum(len(file.pieces) for file in told.manifest.files)
        assert had == PiecesHad(house.shelf.model, name, (PieceRun(0, count),))
        house.seeder.receive(BEN, AskPieces(house.shelf.model, name))
        assert await house.settled() == [(BEN, had)]

    in_house(test, source)


def test_a_block_is_the_bytes_that_were_asked_for(source):
    async def test(house):
        name = await house.known()
        house.seeder.receive(BEN, AskBlock(name, 1, 5, 70))
        data = house.shelf.read(1, 5, 70)
        assert await house.settled() == [(BEN, Block(name, 1, 5, data))]
        assert house.seeder.given_bytes == 65

    in_house(test, source)


def test_two_who_ask_for_much_take_turns(source):
    async def test(house):
        name = await house.known()
        for number in range(3 * READ_AT_A_TIME):
            for peer in (ANNA, BEN):
                house.seeder.receive(peer, AskBlock(name, number, 0, 9))
        order = [peer for peer, _ in await house.settled()]
        assert order == 3 * (READ_AT_A_TIME * [ANNA] + READ_AT_A_TIME * [BEN])

    in_house(test, source)


def test_what_is_not_here_is_refused_by_name(source):
    async def test(house):
        model, manifest = ModelId("ee" * 32), ManifestId("ef" * 32)
        name = await house.known()
        house.seeder.receive(ANNA, AskPieces(model, ""))
        house.seeder.receive(ANNA, AskBlock(manifest, 0, 0, 9))
        house.seeder.receive(ANNA, AskBlock(name, 10**6, 0, 9))
        house.seeder.receive(ANNA, AskBlock(name, 0, PIECE_BYTES, PIECE_BYTES + 9))
        answers = [message for _, message in await house.settled()]
        assert {type(answer) for answer in answers} == {NotGiven}
        assert [answer.about for answer in answers[:2]] == [model, manifest]
        assert answers[-1].about == name
        house.seeder.receive(ANNA, AskBlock(name, 0, 0, 9))  # and it serves on
        assert isinstance((await house.settled())[0][1], Block)

    in_house(test, source)


def test_one_that_asks_for_too_much_at_a_time_is_told_and_one_that_left_gets_nothing(source):
    async def test(house):
        name = await house.known()
        for number in range(MOST_ASKED + 3):
            house.seeder.receive(ANNA, AskBlock(name, number % 50, 0, 9))
        house.seeder.receive(BEN, AskBlock(name, 1, 0, 9))
        house.seeder.link_lost(BEN)
        sent = await house.settled()
        assert [message.code for _, message in sent if isinstance(message, NotGiven)] == [
            "memory_full"
        ] * 3
        assert sum(isinstance(message, Block) for _, message in sent) == MOST_ASKED
        assert {peer for peer, _ in sent} == {ANNA}

    in_house(test, source)


def test_while_it_pauses_nothing_is_given_and_who_asks_knows(source):
    async def test(house):
        name = await house.known()
        for number in range(3):
            house.seeder.receive(BEN, AskBlock(name, number, 0, 9))
        house.seeder.pause(WHY)
        house.seeder.receive(ANNA, AskBlock(name, 0, 0, 9))
        house.seeder.receive(ANNA, AskPieces(house.shelf.model, name))
        told = [(peer, message.about, message.code) for peer, message in await house.settled()]
        assert told == [
            (BEN, name, "peer_paused"),
            (ANNA, name, "peer_paused"),
            (ANNA, house.shelf.model, BUSY),
        ]
        house.seeder.resume()
        house.seeder.receive(BEN, AskBlock(name, 1, 0, 9))
        assert isinstance((await house.settled())[0][1], Block)

    in_house(test, source)


def test_what_is_sent_keeps_to_the_upload_that_was_allowed(source):
    async def test(house):
        name = await house.known()
        house.allowance.upload_bytes_per_s = 100.0
        for number in range(10):
            house.allowance.sent(0)
            house.seeder.receive(BEN, AskBlock(name, number, 0, 100))
        sent = house.links.send

        def count(peer, message) -> None:  # as the connections do
            sent(peer, message)
            house.allowance.sent(len(message.data))

        house.seeder._send = count
        await asyncio.sleep(5.0)
        assert 4 <= len(house.links.of(Block)) <= 7
        await asyncio.sleep(10.0)
        assert len(house.links.of(Block)) == 10

    in_house(test, source)
