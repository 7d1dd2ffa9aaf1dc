"""Server-sent events on their way to one reader: data, comments, and a deadline for each.

Knows nothing of what is in them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Send

STALLED_AFTER_S = 60.0
"""A reader that takes nothing for this long is given up."""

HEARTBEAT_S = 15.0
"""A stream that has nothing to say says so this often, so that nobody in between ends it."""

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}
"""The last one asks a proxy to pass every event on at once."""


class EventStream:
    """`is_lost` once the reader took nothing in time; what is sent then goes nowhere."""

    def __init__(self, send: Send, stalled_after_s: float = STALLED_AFTER_S) -> None:
        self._send, self._stalled_after_s = send, stalled_after_s
        self.is_lost = False

    async def start(self, headers: Mapping[str, str]) -> None:
        """The response's status and headers."""
        pairs = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in {**HEADERS, **headers}.items()
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": pairs})

    async def data(self, value: Any, event: str | None = None) -> None:
        """One event with a JSON value."""
        name = f"event: {event}\n" if event else ""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        await self._write(f"{name}data: {text}\n\n")

    async def done(self) -> None:
        """OpenAI's mark of a whole stream."""
        await self._write("data: [DONE]\n\n")

    async def comment(self, text: str) -> None:
        """A line that readers skip."""
        await self._write(f": {text}\n\n")

    async def end(self) -> None:
        """Nothing more comes."""
        await self._write("", more=False)

    async def _write(self, text: str, more: bool = True) -> None:
        if self.is_lost:
            return
        body = text.encode("utf-8", "replace")
        try:
            async with asyncio.timeout(self._stalled_after_s):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            self.is_lost = True
