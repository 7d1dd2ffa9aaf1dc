"""Streams to slow readers, from slow swarms, and to more readers than there are places."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from api_events import blocks
from api_house import CHAT
from manyhands.api.asked import chat_asked
from manyhands.api.bodies import ChatBody
from manyhands.api.desk import MOST_REQUESTS, Desk
from manyhands.api.event_stream import EventStream
from manyhands.api.refusals import RequestRefused
from manyhands.api.replies import stream
from manyhands.api.speaking import Ended, Events, Failed, Piece
from manyhands.errors import NoStandIn


async def streamed(served, *events, headers_after_s: float = 0.0):
    """The blocks of a stream whose events come only after it had to begin."""
    sent = []

    async def send(message) -> None:
        sent.append(message)
        if message["type"] == "http.response.start":
            for event in events:
                await row.put(event)

    body = ChatBody(model="tiny", messages=CHAT, max_tokens=2, stream=True)
    row = Events()
    response = await stream(
        await chat_asked(body, Desk(served.serving)), row, EventStream(send), headers_after_s
    )
    text = b"".join(message.get("body", b"") for message in sent).decode()
    return response, list(blocks(text.split("\n")))


async def test_a_stream_whose_first_token_takes_long_begins_without_it(served):
    response, said = await streamed(served, Piece(0, "late", None), Ended(0, "stop"))
    assert response is None
    assert [one.comment for one in said if one.comment] == ["working"]
    texts = [one.value["choices"][0]["delta"].get("content") for one in said if one.value]
    assert texts == ["", "late", None]
    assert said[-1].is_done


async def test_and_then_a_failure_is_an_event(served):
    response, said = await streamed(served, Failed(NoStandIn("nobody holds layers 2-3")))
    assert response is None
    assert (said[-1].name, said[-1].value["error"]["code"]) == ("error", "no_stand_in")


async def test_a_reader_that_takes_nothing_is_given_up_and_costs_no_more_time():
    async def never(message) -> None:
        await asyncio.Event().wait()

    out = EventStream(never, stalled_after_s=0.01)
    await out.data({})
    assert out.is_lost
    async with asyncio.timeout(20):
        for _ in range(1000):
            await out.comment("nobody reads this")


def test_more_requests_than_places_are_told_when_to_ask_again(served):
    desk = Desk(served.serving)
    with ExitStack() as stack:
        for _ in range(MOST_REQUESTS):
            stack.enter_context(desk.a_request())
        with pytest.raises(RequestRefused) as raised, desk.a_request():
            pass
    response = raised.value.refusal.response()
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")
    with desk.a_request():
        assert desk.requests == 1
