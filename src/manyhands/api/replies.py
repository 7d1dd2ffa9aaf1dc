"""The answers of one request over HTTP: whole, or as a stream of pieces.

An error before the first token has its own status. One in the middle of a stream goes out as an
`error` event and ends it, without [DONE].
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from manyhands.api.asked import Asked
from manyhands.api.desk import Desk
from manyhands.api.event_stream import HEARTBEAT_S, EventStream
from manyhands.api.forms import Json, usage
from manyhands.api.refusals import refusal_of
from manyhands.api.speaking import Ended, Event, Events, Failed, Left, Piece, Recovered, speaking
from manyhands.api.token_log import LoggedToken

HEADERS_AFTER_S = 10.0
"""A stream whose first token takes longer starts without it; errors then come as events."""

CLIENT_GONE = 499
"""Nobody reads it; for logs."""


class Spoken(Response):
    """Speaks while it is sent, and stops when its reader leaves."""

    def __init__(self, ask: Callable[[], Awaitable[Asked]], desk: Desk) -> None:
        super().__init__()
        self._ask, self._desk = ask, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises RequestRefused when too many are at work, and as `ask`."""
        desk = self._desk
        with desk.a_request():
            asked = await self._ask()
            with desk.counting(asked.completion_tokens):
                async with speaking(asked.choices, receive, desk.closing) as events:
                    if asked.is_stream:
                        ended = await stream(asked, events, EventStream(send))
                    else:
                        ended = await _whole(asked, events)
        if ended is not None:
            await ended(scope, receive, send)


def _headers(asked: Asked) -> dict[str, str]:
    return {"x-manyhands-ignored": asked.ignored} if asked.ignored else {}


async def _whole(asked: Asked, events: Events) -> Response:
    texts = ["" for _ in asked.choices]
    tokens: list[list[LoggedToken]] = [[] for _ in asked.choices]
    finishes: dict[int, str] = {}
    while len(finishes) < len(asked.choices):
        match await events.next():
            case Piece(index, text, logged):
                texts[index] += text
                tokens[index] += logged or ()
            case Ended(index, finish):
                finishes[index] = finish
            case Failed(error):
                return refusal_of(error).response()
            case Left():
                return Response(status_code=CLIENT_GONE)
            case Recovered() | None:
                pass
    form = asked.form
    choices = [
        form.choice(
            choice.index,
            texts[choice.index],
            None if choice.log is None else tokens[choice.index],
            finishes[choice.index],
        )
        for choice in asked.choices
    ]
    counts = usage(asked.prompt_tokens, asked.completion_tokens())
    headers = _headers(asked)
    if kernels := asked.kernels():
        headers["x-manyhands-kernels"] = ", ".join(kernels)
    if recovered := asked.recovered_s():
        headers["x-manyhands-recovered-s"] = ", ".join(map(str, recovered))
    return json_response(asked.heading.over(form.whole, choices, counts), headers)


def json_response(value: Json, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON body."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text.encode("utf-8", "replace"), 200, dict(headers or {}), "application/json")


async def stream(
    asked: Asked, events: Events, out: EventStream, headers_after_s: float = HEADERS_AFTER_S
) -> Response | None:
    """Send the stream; a response instead when it fails before it has begun."""
    first = await events.next(headers_after_s)
    if isinstance(first, Failed):
        return refusal_of(first.error).response()
    await out.start(_headers(asked))
    for choice in asked.choices:
        if (opening := asked.form.opening(choice.index)) is not None:
            await out.data(_chunk(asked, opening))
    left = len(asked.choices)
    event: Event | None = first
    while True:
        if isinstance(event, (Failed, Left)) or out.is_lost:
            if isinstance(event, Failed):
                await out.data(refusal_of(event.error).body(), "error")
            break
        left -= isinstance(event, Ended)
        await _tell(asked, event, out)
        if not left:
            await _finish(asked, out)
            break
        event = await events.next(HEARTBEAT_S)
    await out.end()
    return None


async def _tell(asked: Asked, event: Event | None, out: EventStream) -> None:
    match event:
        case Piece(index, text, tokens):
            await out.data(_chunk(asked, asked.form.delta(index, text, tokens)))
        case Ended(index, finish):
            if kernels := asked.kernels_of(index):
                await _remark(out, {"choice": index, "kernels": kernels})
            await out.data(_chunk(asked, asked.form.ending(index, finish)))
        case Recovered(index, seconds):
            await _remark(out, {"choice": index, "recovered_s": round(seconds, 6)})
        case _:
            await out.comment("working")


async def _finish(asked: Asked, out: EventStream) -> None:
    if asked.has_usage:
        counts = usage(asked.prompt_tokens, asked.completion_tokens())
        await out.data(asked.heading.over(asked.form.piece, [], counts))
    await out.done()


def _chunk(asked: Asked, choice: Json) -> Json:
    made = asked.heading.over(asked.form.piece, [choice])
    return {**made, "usage": None} if asked.has_usage else made


async def _remark(out: EventStream, value: Json) -> None:
    """What only a swarm can tell: a comment, which every reader that does not know it skips."""
    await out.comment(f"manyhands {json.dumps(value)}")
