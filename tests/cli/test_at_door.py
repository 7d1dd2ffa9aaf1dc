"""A yes that is typed lets in the device that was shown, and never one that took its place."""

from __future__ import annotations

import asyncio
import contextlib

from manyhands.cli.at_door import AtDoor
from manyhands.cli.console import Console
from manyhands.errors import PeerError
from manyhands.node.approvals import Approvals
from small_swarms import peer_id


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_bare_yes_is_not_for_whoever_came_after_the_one_that_was_shown():
    approvals = Approvals(asyncio.get_running_loop().time, 60.0)
    door = AtDoor(Console(as_json=True), approvals, has_chat=False)

    async def asks(number: int, code: str) -> bool:
        with contextlib.suppress(PeerError):
            await approvals.judged(peer_id(number), f"device {number}", code)
            return True
        return False

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(door.run())
        first = tasks.create_task(asks(1, "111-111"))
        await turns()
        first.cancel()
        second = tasks.create_task(asks(2, "222-222"))
        await turns()
        door._heard("y")
        await turns()
        assert not second.done()
        door._heard("y")  # told that several have asked, a person looks again
        assert await second
        third = tasks.create_task(asks(3, "333-333"))
        await turns()
        door._heard("n")
        assert not await third
        watching.cancel()
