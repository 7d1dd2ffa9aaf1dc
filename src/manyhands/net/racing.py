"""Several ways to one place, tried a moment apart: the first that serves is taken.

Knows nothing of what a way is. (After RFC 8305, "Happy Eyeballs".)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

T = TypeVar("T")

STAGGER_S = 0.2
"""The next way is tried so long after the one before, or as soon as that one has failed."""


async def quickest(
    ways: Sequence[Callable[[], Coroutine[None, None, T]]],
    give_up: tuple[type[Exception], ...],
    discard: Callable[[T], None] = lambda _: None,
) -> T:
    """What the first way gives that ends well; the others are cancelled.

    What a second one gave in the same moment is given to `discard`.

    A way fails by an error of `give_up`; when all have, the first one's is raised. What else is
    raised comes out in an ExceptionGroup. There must be a way.
    """
    failed: list[Exception | None] = [None] * len(ways)
    came: list[T] = []

    async def attempt(number: int) -> None:
        try:
            came.append(await ways[number]())
        except give_up as error:
            failed[number] = error

    async with asyncio.TaskGroup() as tasks:
        trying: set[asyncio.Task[None]] = set()
        for number in range(len(ways)):
            trying.add(tasks.create_task(attempt(number)))
            is_last = number == len(ways) - 1
            while trying and not came:
                _, trying = await asyncio.wait(
                    trying,
                    timeout=None if is_last else STAGGER_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not is_last:
                    break
            if came:
                break
        for task in trying:
            task.cancel()
    for late in came[1:]:
        discard(late)
    if came:
        return came[0]
    raise next(error for error in failed if error is not None)
