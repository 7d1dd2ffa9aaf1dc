"""Streams to slow readers, from slow swarms, and to more readers than there are places."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import NoReturn

import pytest

from api_events import blocks
from api_house import CHAT
from manyhands.api.asked import chat_asked
from manyhands.api.bodies import ChatBody
from manyhands.api.desk import LONG_CHARACTERS, MOST_REQUESTS, Desk
from manyhands.api.event_stream import EventStream
from manyhands.api.refusals import RequestRefused
from manyhands.api.replies import Spoken, stream
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


class Spoke:
    """An answer that is over, computed by peers that name their kernels so."""

    recovered_s: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()

    def __init__(self, *kernels: str) -> None:
        self.kernels = kernels


async def test_an_answer_says_which_kernels_computed_it_in_words_that_fit_a_header(served):
    body = ChatBody(model="tiny", messages=CHAT, max_tokens=2, n=2)
    asked = await chat_asked(body, Desk(served.serving))
    named = ("numpy-fp32-2", "torch-fp32-2\r\nset-cookie: x", "a, b" + "c" * 200), ("numpy-fp32-2",)
    asked = replace(
        asked,
        choices=tuple(
            replace(choice, answer=Spoke(*names))
            for choice, names in zip(asked.choices, named, strict=True)
        ),
    )
    assert asked.kernels_of(1) == ["numpy-fp32-2"]
    assert asked.kernels_of(0) == asked.kernels()
    assert asked.kernels() == [
        *("numpy-fp32-2", "torch-fp32-2??set-cookie:?x", "a??b" + "c" * 96),
    ]


async def test_a_full_server_does_not_even_look_at_a_prompt(served):
    async def ask() -> NoReturn:
        raise AssertionError("the place comes first")

    async def nothing(*_) -> None:
        """Nothing comes, nothing is sent."""

    desk = Desk(served.serving)
    with ExitStack() as stack:
        for _ in range(MOST_REQUESTS):
            stack.enter_context(desk.a_request())
        with pytest.raises(RequestRefused, match="ask again"):
            await Spoken(ask, desk)({"type": "http"}, nothing, nothing)
    assert desk.requests == 0


@pytest.mark.parametrize("characters", [LONG_CHARACTERS + 1, 7_900_000])
async def test_a_text_that_cannot_fit_is_refused_before_it_is_encoded(served, characters):
    desk, speaker = Desk(served.serving), served.serving.speakers[0]
    text = "w" * characters
    assert speaker.tokenizer.longest_token < 32
    for refused in (
        desk.text_ids(speaker, text, "prompt"),
        desk.chat_ids(speaker, [{"role": "user", "content": text}], "prompt"),
    ):
        with pytest.raises(RequestRefused, match=f"{characters // 100}.* characters") as raised:
            await refused
        assert raised.value.refusal.code == "context_length_exceeded"
        assert raised.value.refusal.param == "prompt"


async def test_prompts_are_encoded_as_a_speaker_would(served):
    desk, speaker = Desk(served.serving), served.serving.speakers[0]
    assert await desk.text_ids(speaker, "a b", "prompt") == speaker.ids("a b")
    assert await desk.chat_ids(speaker, CHAT, "messages") == speaker.ids(CHAT)


async def test_a_long_text_waits_for_its_turn_and_a_short_one_does_not(served):
    desk, speaker = Desk(served.serving), served.serving.speakers[0]
    wide = SimpleNamespace(  # a context that does not refuse it
        context=1 << 20, tokenizer=speaker.tokenizer, ids=speaker.ids, name=speaker.name
    )
    turn = desk._turn(LONG_CHARACTERS + 1)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks, turn:
        long = tasks.create_task(desk.text_ids(wide, "w " * LONG_CHARACTERS, "prompt"))
        await desk.text_ids(wide, "short", "prompt")
        assert not long.done()
    assert len(long.result()) > LONG_CHARACTERS


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
