"""Who finds memory full waits its turn, holding nothing, and is let in or told why not."""

from __future__ import annotations

import asyncio
import random

import pytest

from manyhands.errors import MemoryFull, NoStandIn
from manyhands.node import waiting_room
from manyhands.node.waiting_room import WaitingRoom
from manyhands.sim.virtual_loop import run_virtual


class House:
    """`places` of them; `enter` takes one or finds the house full."""

    def __init__(self, places: int, wait_s: float = 10.0) -> None:
        self.places, self.order = places, []
        clock = asyncio.get_running_loop().time
        self.room = WaitingRoom(clock, random.Random(1), wait_s)

    async def enter(self, name: str) -> str:
        async def one() -> str:
            await asyncio.sleep(0.01)
            if not self.places:
                raise MemoryFull("no room")
            self.places -= 1
            self.order.append(name)
            return name

        return await self.room.admit(one)

    def leave(self) -> None:
        self.places += 1
        self.room.freed()


def test_those_who_wait_are_let_in_in_the_order_they_came():
    async def main():
        house = House(1)
        await house.enter("first")
        async with asyncio.TaskGroup() as tasks:
            for name in "abc":
                tasks.create_task(house.enter(name))
                await asyncio.sleep(0.1)
            assert house.room.waiting == 3
            for _ in "abc":
                house.leave()
                await asyncio.sleep(1.0)
        assert house.order == ["first", "a", "b", "c"]
        assert house.room.waiting == 0

    run_virtual(main)


def test_a_newcomer_does_not_overtake_those_who_wait():
    async def main():
        house = House(0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(house.enter("waits"))
            await asyncio.sleep(0.1)
            house.places = 1
            tasks.create_task(house.enter("newcomer"))
            await asyncio.sleep(1.0)
            assert house.order == ["waits"]
            house.leave()

    run_virtual(main)


def test_waiting_ends_with_the_reason_and_how_long_it_was():
    async def main():
        house, loop = House(0), asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(MemoryFull, match=r"no room \(waited 10 s, behind 0 others\)"):
            await house.enter("late")
        assert 10.0 <= loop.time() - began_s < 11.0
        assert house.room.waiting == 0

    run_virtual(main)


def test_another_error_ends_the_waiting_at_once_and_so_does_giving_up():
    async def main():
        house = House(0)
        tries = 0

        async def broken() -> None:
            nonlocal tries
            tries += 1
            raise MemoryFull("full") if tries < 3 else NoStandIn("gone")

        with pytest.raises(NoStandIn):
            await house.room.admit(broken)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await house.enter("gives up")
        assert house.room.waiting == 0

    run_virtual(main)


def test_without_patience_nobody_waits():
    async def main():
        house, loop = House(0, wait_s=0.0), asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(MemoryFull):
            await house.enter("hurried")
        assert loop.time() - began_s < 0.1

    run_virtual(main)


def test_the_row_has_an_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting_room, "MOST_WAITING", 2)

    async def main():
        house = House(0)
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(house.enter(name)) for name in "ab"]
            await asyncio.sleep(0.1)
            with pytest.raises(MemoryFull, match="2 sessions wait"):
                await house.enter("c")
            for one in waiting:
                one.cancel()

    run_virtual(main)
