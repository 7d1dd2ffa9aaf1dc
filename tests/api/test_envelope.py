"""Whatever goes wrong inside, an answer of the usual form goes out; bodies have a limit in time."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from manyhands.api import envelope
from manyhands.api.envelope import Envelope

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


async def reply_of(app, scope=SCOPE, receive=None) -> list[dict]:
    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def nothing():
        await asyncio.Event().wait()

    await Envelope(app, random.Random(1))(scope, receive or nothing, send)
    return sent


async def test_a_mistake_of_ours_is_a_500_that_tells_nothing_of_it(caplog):
    async def broken(scope, receive, send):
        raise ZeroDivisionError("the secret reason")

    start, body = await reply_of(broken)
    assert start["status"] == 500
    error = json.loads(body["body"])["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in body["body"].decode()
    assert "the secret reason" in caplog.text
    names = dict(start["headers"])
    assert names[b"x-request-id"].decode() in caplog.text


async def test_a_mistake_after_the_start_ends_the_connection():
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await reply_of(broken)


async def test_what_is_no_http_is_not_passed_on():
    async def broken(scope, receive, send):
        raise AssertionError("it was")

    assert await reply_of(broken, {"type": "websocket"}) == []


async def test_a_body_that_does_not_come_has_a_deadline_and_a_long_answer_has_none():
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def receive():
        try:
            return next(messages)
        except StopIteration:
            await asyncio.Event().wait()

    async def reads(scope, receive, send):
        assert (await receive())["body"] == b"x"
        receive._deadline_s = asyncio.get_running_loop().time() - 1
        with pytest.raises(envelope.RequestRefused) as raised:
            await receive()
        assert raised.value.status_code == 408
        await send({"type": "http.response.start", "status": 408, "headers": []})

    (start,) = await reply_of(reads, receive=receive)
    assert start["status"] == 408
