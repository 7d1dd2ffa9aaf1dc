"""The routes that tell of the swarm: health, a snapshot, and a stream of snapshots."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from manyhands.api.desk import MOST_VIEWERS, Desk
from manyhands.api.event_stream import HEARTBEAT_S, EventStream
from manyhands.api.forms import Json
from manyhands.api.refusals import RequestRefused
from manyhands.api.replies import json_response
from manyhands.api.swarm_view import MISSING, ServedModel, health, swarm_view
from manyhands.domain.ids import ModelId
from manyhands.node.speaker import Speaker

TOGETHER_S = 0.05
"""Changes that come within this time are told as one."""


def swarm_routes(desk: Desk) -> APIRouter:
    """`/health`, `/swarm` and `/swarm/events`."""
    routes = APIRouter(tags=["Swarm"])

    def view() -> Json:
        return view_of(desk)

    @routes.get("/health", summary="503 when layers of a model are missing; needs no key")
    async def is_well() -> Response:
        status = health(desk.serving.node.directory.swarm, _all_served(desk))
        response = json_response({"status": status})
        response.status_code = 503 if status == MISSING else 200
        return response

    @routes.get("/swarm", summary="Who is here and holds what")
    async def swarm() -> Response:
        return json_response({**view(), "version": desk.serving.version, "tokens": desk.tokens})

    @routes.get("/swarm/events", summary="A snapshot now and at every change, as a stream")
    async def events() -> Response:
        return Feed(view, desk)

    return routes


def view_of(desk: Desk) -> Json:
    """The swarm as it is now, as a page or a program sees it."""
    node = desk.serving.node
    return swarm_view(node.directory.swarm, node.peer, _all_served(desk), desk.requests)


def _all_served(desk: Desk) -> list[ServedModel]:
    return [_served(speaker, desk) for speaker in desk.serving.speakers]


def _served(speaker: Speaker, desk: Desk) -> ServedModel:
    can = desk.abilities(speaker)
    return ServedModel(
        name=speaker.name,
        id=ModelId(speaker.model.id),
        layers=len(speaker.model.spec.layers),
        context=speaker.context,
        speaks=can.speaks,
        chats=can.chats,
        hears_system=can.hears_system,
    )


class Feed(Response):
    """Sends a snapshot whenever it differs from the one before, until the reader leaves."""

    def __init__(self, view: Callable[[], Json], desk: Desk) -> None:
        super().__init__()
        self._view, self._desk = view, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises RequestRefused when too many look on."""
        del scope
        desk, out = self._desk, EventStream(send)
        if desk.viewers >= MOST_VIEWERS:
            raise RequestRefused(429, f"{MOST_VIEWERS} pages look on already; close one")
        desk.viewers += 1
        try:
            await out.start({})
            async with _news(desk, receive) as news:
                await self._send_all(news, out)
            await out.end()
        finally:
            desk.viewers -= 1

    async def _send_all(self, news: _News, out: EventStream) -> None:
        told: Json | None = None
        while not (news.is_over or out.is_lost):
            now = self._view()
            if now != told:
                told = now
                await out.data(now, "swarm")
            else:
                await out.comment("alive")
            await news.wait()


class _News:
    """Something has changed, or nobody listens any more."""

    def __init__(self) -> None:
        self.is_over = False
        self._come = asyncio.Event()

    def tell(self, *, is_over: bool = False) -> None:
        self.is_over = self.is_over or is_over
        self._come.set()

    async def wait(self) -> None:
        """Return at the next news, and now and then without any."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await self._come.wait()
                if not self.is_over:
                    await asyncio.sleep(TOGETHER_S)
        self._come.clear()


@contextlib.asynccontextmanager
async def _news(desk: Desk, receive: Receive) -> AsyncIterator[_News]:
    news = _News()

    async def changes() -> None:
        while True:
            await desk.serving.node.directory.changed()
            news.tell()

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        news.tell(is_over=True)

    async def closing() -> None:
        await desk.closing.wait()
        news.tell(is_over=True)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work()) for work in (changes, leaving, closing)]
        try:
            yield news
        finally:
            for task in running:
                task.cancel()
