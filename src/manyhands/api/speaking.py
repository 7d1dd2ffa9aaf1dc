"""Several answers spoken at once, as one row of events; ends early when nobody listens any more.

Knows nothing of JSON or of how events are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.types import Receive

from manyhands.api.asked import Choice
from manyhands.api.refusals import RequestRefused, closing_refusal
from manyhands.api.token_log import LoggedToken
from manyhands.errors import ManyhandsError

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
"""Answers of one request that are spoken at a time; the others wait."""

MOST_WAITING = 64
"""Events that wait for a slow reader; then the answers wait, too."""


@dataclass(frozen=True, slots=True)
class Piece:
    """More of one answer; `tokens` are those whose log-probabilities may be told now."""

    index: int
    text: str
    tokens: tuple[LoggedToken, ...] | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A peer was lost within an answer, and the answer went on after `seconds`."""

    index: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """One answer is complete."""

    index: int
    finish: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The request cannot be answered any further."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Left:
    """Whoever asked has gone."""


Event = Piece | Recovered | Ended | Failed | Left


class Events:
    """The row of events. `next` waits for one."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MOST_WAITING)

    async def put(self, event: Event) -> None:
        """Add one; waits while the row is full."""
        await self._waiting.put(event)

    async def next(self, deadline_s: float | None = None) -> Event | None:
        """The next event; None when none came in time."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self._waiting.get()
        except TimeoutError:
            return None


@contextlib.asynccontextmanager
async def speaking(
    choices: Sequence[Choice], receive: Receive, closing: asyncio.Event
) -> AsyncIterator[Events]:
    """Speak while the body runs. On the way out whatever still speaks is ended, its session too.

    `receive` is the request's, its body read; `closing` ends it as a failure.
    """
    events = Events()
    slots = asyncio.Semaphore(MOST_AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_speak(choice, slots, events)) for choice in choices]
        running.append(tasks.create_task(_watch(receive, events)))
        running.append(tasks.create_task(_close(closing, events)))
        try:
            yield events
        finally:
            for task in running:
                task.cancel()


async def _speak(choice: Choice, slots: asyncio.Semaphore, events: Events) -> None:
    try:
        async with slots:
            await _spoken(choice, events)
    except ManyhandsError as error:
        await events.put(Failed(error))
    except Exception as error:
        log.exception("an answer ended by a mistake of ours")
        await events.put(Failed(error))


async def _spoken(choice: Choice, events: Events) -> None:
    answer, kept = choice.answer, choice.log
    told, recoveries, shown = 0, 0, 0
    if choice.echo:
        await events.put(Piece(choice.index, choice.echo, None))
    async with contextlib.aclosing(answer.pieces()) as pieces:
        async for text in pieces:
            for seconds in answer.recovered_s[recoveries:]:
                await events.put(Recovered(choice.index, seconds))
            recoveries = len(answer.recovered_s)
            shown += len(text)
            tokens = None
            if kept is not None:
                for token in answer.tokens[told:]:
                    kept.add(token)
                told = len(answer.tokens)
                tokens = kept.release(shown)
            if text or tokens:
                await events.put(Piece(choice.index, text, tokens))
    if kept is not None and (rest := kept.finish(shown)):
        await events.put(Piece(choice.index, "", rest))
    await events.put(Ended(choice.index, answer.finish))


async def _watch(receive: Receive, events: Events) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    await events.put(Left())


async def _close(closing: asyncio.Event, events: Events) -> None:
    await closing.wait()
    refusal = closing_refusal()
    await events.put(Failed(RequestRefused(refusal.status, refusal.message, code=refusal.code)))
