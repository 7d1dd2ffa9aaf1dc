"""Around every request: a name for it, limits of its body, and an answer whatever goes wrong.

Knows nothing of who asks or what.
"""

from __future__ import annotations

import asyncio
import logging
import random

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manyhands.api.refusals import Refusal, RequestRefused, closing_refusal, refusal_of

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 8 * 2**20
"""A prompt of a million tokens fits."""

BODY_DEADLINE_S = 30.0
"""The whole body must be here by then."""


class Envelope:
    """ASGI middleware; the outermost one."""

    def __init__(self, app: ASGIApp, chance: random.Random) -> None:
        self._app, self._chance = app, chance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on. What is raised in there becomes a 500, or ends the connection."""
        if scope["type"] != "http":
            return
        name = f"req_{self._chance.getrandbits(96):024x}"
        is_started = False

        async def named(message: Message) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                MutableHeaders(raw=message.setdefault("headers", []))["x-request-id"] = name
            await send(message)

        try:
            size = Headers(scope=scope).get("content-length", "0")
            if size.isascii() and size.isdigit() and int(size) > MOST_BODY_BYTES:
                await _too_large().response()(scope, receive, named)
            else:
                await self._app(scope, _Body(receive), named)
        except asyncio.CancelledError:  # closing did not wait for it any longer
            if not is_started:
                await closing_refusal().response()(scope, receive, named)
            raise
        except Exception as error:
            log.exception("request %s failed by a mistake of ours", name)
            if is_started:
                raise  # which ends the connection
            await refusal_of(error).response()(scope, receive, named)


class _Body:
    """`receive` with a limit and a deadline until the body is complete."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_whole = False
        self._bytes = 0
        self._deadline_s = asyncio.get_running_loop().time() + BODY_DEADLINE_S

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await self._receive()
        except TimeoutError:
            raise RequestRefused(
                408, f"the body was not complete after {BODY_DEADLINE_S:.0f} s; send it at once"
            ) from None
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._bytes > MOST_BODY_BYTES:
            self._is_whole = True
            refusal = _too_large()
            raise RequestRefused(refusal.status, refusal.message)
        return message


def _too_large() -> Refusal:
    return Refusal(413, f"the body has over {MOST_BODY_BYTES // 2**20} MiB; send less")
