"""Programs written for OpenAI ask a split model: chats, texts, streams, several answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pydantic
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from api_events import blocks
from api_house import CHAT

ASKED = {"model": "tiny", "messages": CHAT, "max_tokens": 12, "seed": 5}


def text_of(pieces) -> str:
    return "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)


def no_extras(value: Any) -> None:
    """Nothing is in it that the client's own types do not name."""
    if isinstance(value, pydantic.BaseModel):
        assert not value.model_extra, value.model_extra
        for name in type(value).model_fields:
            no_extras(getattr(value, name))
    for item in value if isinstance(value, list) else ():
        no_extras(item)


def test_models_are_listed_and_found_by_name(client, http):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "manyhands"
    no_extras(Model.model_validate(http.get("/v1/models/tiny").json(), strict=True))


def test_a_chat_is_answered_whole_and_in_pieces_alike(client):
    whole = client.chat.completions.create(**ASKED)
    text = whole.choices[0].message.content
    assert text
    assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (12, "length")
    pieces = list(client.chat.completions.create(**ASKED, stream=True))
    assert text_of(pieces) == text
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == "length"
    assert all(piece.usage is None for piece in pieces)
    assert len({piece.id for piece in pieces}) == 1


def test_usage_comes_last_when_it_is_asked_for(client):
    options = {"include_usage": True}
    *pieces, last = client.chat.completions.create(**ASKED, stream=True, stream_options=options)
    assert (last.choices, last.usage.completion_tokens) == ([], 12)
    assert last.usage.total_tokens == last.usage.prompt_tokens + 12
    assert all(piece.usage is None for piece in pieces)


def test_the_same_seed_says_the_same_and_no_seed_something_new(client):
    def say(**changes):
        answer = client.chat.completions.create(**{**ASKED, **changes})
        return answer.choices[0].message.content

    assert say() == say()
    assert say(seed=-5) == say(seed=2**64 - 5)
    assert len({say(seed=None) for _ in range(3)}) == 3
    assert say(temperature=0, seed=1) == say(temperature=0, seed=2)


def test_several_answers_differ_and_the_first_is_the_one_alone(client):
    several = client.chat.completions.create(**ASKED, n=3)
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == client.chat.completions.create(**ASKED).choices[0].message.content
    assert several.usage.completion_tokens == 36
    pieces = list(client.chat.completions.create(**ASKED, n=3, stream=True))
    for index in range(3):
        mine = [c for piece in pieces for c in piece.choices if c.index == index]
        assert "".join(choice.delta.content or "" for choice in mine) == texts[index]


def test_an_answer_ends_before_a_stop_text_whole_and_in_pieces(client):
    full = client.chat.completions.create(**{**ASKED, "max_tokens": 40}).choices[0].message.content
    stop = full[10:13]
    cut = full[: full.index(stop)]
    asked = {**ASKED, "max_tokens": 40, "stop": ["never said", stop]}
    whole = client.chat.completions.create(**asked, logprobs=True).choices[0]
    assert (whole.message.content, whole.finish_reason) == (cut, "stop")
    pieces = list(client.chat.completions.create(**asked, stream=True))
    assert text_of(pieces) == cut
    said = "".join(token.token for token in whole.logprobs.content)
    assert said.startswith(cut) or "\ufffd" in said
    assert len(whole.logprobs.content) < 40


@pytest.mark.parametrize(
    "prompt", ["Many hands", ["Many hands"], [7, 1, 300, 42], [[7, 1, 300, 42]]], ids=str
)
def test_a_prompt_may_be_a_text_or_token_ids_alone_or_in_a_list(client, prompt):
    answer = client.completions.create(model="tiny", prompt=prompt, max_tokens=5, seed=1)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 5
    pieces = client.completions.create(
        model="tiny", prompt=prompt, max_tokens=5, seed=1, stream=True
    )
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text


def test_several_prompts_give_their_answers_in_order(client):
    one = {"model": "tiny", "max_tokens": 6, "temperature": 0}
    alone = [
        client.completions.create(**one, prompt=prompt).choices[0].text for prompt in ("ab", "the")
    ]
    both = client.completions.create(**one, prompt=["ab", "the"], n=2)
    assert [choice.text for choice in both.choices] == [alone[0], alone[0], alone[1], alone[1]]
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]


def test_without_max_tokens_a_text_gets_sixteen_and_a_chat_what_the_context_has(client):
    text = client.completions.create(model="tiny", prompt="a", logit_bias={"1": -100}, seed=1)
    assert text.usage.completion_tokens == 16
    chat = client.chat.completions.create(
        model="tiny", messages=CHAT, logit_bias={"1": -100}, seed=1
    )
    assert chat.usage.total_tokens == 512
    assert chat.choices[0].finish_reason == "length"


def test_the_prompt_is_said_first_when_echo_is_asked_for(client):
    one = {"model": "tiny", "max_tokens": 4, "seed": 3, "prompt": "Many hands"}
    plain = client.completions.create(**one).choices[0].text
    assert client.completions.create(**one, echo=True).choices[0].text == "Many hands" + plain
    pieces = client.completions.create(**one, echo=True, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == "Many hands" + plain


def test_a_bias_forbids_and_forces_tokens(client):
    forced = client.completions.create(
        model="tiny", prompt="a", max_tokens=3, logit_bias={"80": 100}, logprobs=0
    )
    tokens = forced.choices[0].logprobs.tokens
    assert len(tokens) == 3
    assert len(set(tokens)) == 1


def test_log_probabilities_of_a_chat_have_their_alternatives(client):
    asked = {**ASKED, "logprobs": True, "top_logprobs": 3}
    answer = client.chat.completions.create(**asked)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 12
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        falling = [top.logprob for top in entry.top_logprobs]
        assert falling == sorted(falling, reverse=True)
        if entry.bytes is not None:
            assert bytes(entry.bytes).decode() == entry.token
    streamed = [
        entry
        for piece in client.chat.completions.create(**asked, stream=True)
        for choice in piece.choices
        if choice.logprobs is not None
        for entry in choice.logprobs.content
    ]
    assert [entry.token for entry in streamed] == [entry.token for entry in entries]
    none = client.chat.completions.create(**ASKED, logprobs=True).choices[0].logprobs.content
    assert all(entry.top_logprobs == [] for entry in none)


def test_log_probabilities_of_a_text_hold_the_chosen_token_and_its_place(client):
    answer = client.completions.create(
        model="tiny", prompt="a", max_tokens=8, seed=2, logprobs=2, temperature=1.5
    )
    text, logprobs = answer.choices[0].text, answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == 8
    for token, logprob, top, offset in zip(
        logprobs.tokens,
        logprobs.token_logprobs,
        logprobs.top_logprobs,
        logprobs.text_offset,
        strict=True,
    ):
        assert top[token] >= logprob
        assert len(top) <= 3
        if "\ufffd" not in token:
            # half a character before it becomes U+FFFD only later
            assert text[offset:].lstrip("\ufffd").startswith(token) or token.startswith("<")


def test_raw_chats_are_what_the_types_of_the_client_say_and_nothing_more(http):
    asked = {**ASKED, "logprobs": True, "top_logprobs": 2}
    raw = http.post("/v1/chat/completions", json=asked).json()
    no_extras(ChatCompletion.model_validate(raw, strict=True))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with http.stream("POST", "/v1/chat/completions", json={**asked, **options}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        said = list(blocks(response.iter_lines()))
    assert said[-1].is_done
    chunks = [one.value for one in said if one.value is not None]
    assert len(chunks) > 4
    for chunk in chunks:
        no_extras(ChatCompletionChunk.model_validate(chunk, strict=True))


def test_raw_texts_are_what_the_types_of_the_client_say_and_nothing_more(http):
    asked = {"model": "tiny", "prompt": "a", "max_tokens": 4, "logprobs": 1}
    no_extras(
        Completion.model_validate(http.post("/v1/completions", json=asked).json(), strict=True)
    )
    with http.stream("POST", "/v1/completions", json={**asked, "stream": True}) as response:
        said = list(blocks(response.iter_lines()))
    for chunk in (one.value for one in said if one.value is not None):
        (choice,) = chunk["choices"]
        # OpenAI sends null until the last piece, though its own type does not say so
        choice["finish_reason"] = choice["finish_reason"] or "stop"
        no_extras(Completion.model_validate(chunk, strict=True))


def test_parts_of_text_and_a_developer_are_understood(client):
    parts = [{"type": "text", "text": "Many"}, {"type": "text", "text": "hands?"}]
    one = {"model": "tiny", "max_tokens": 6, "temperature": 0}

    def say(messages):
        return client.chat.completions.create(**one, messages=messages).choices[0].message.content

    plain = say([{"role": "user", "content": "Many\nhands?"}])
    assert say([{"role": "user", "content": parts}]) == plain
    brief = [{"role": "system", "content": "Be brief."}, *CHAT]
    assert say([{"role": "developer", "content": "Be brief."}, *CHAT]) == say(brief)


def test_harmless_parameters_are_taken_and_unknown_ones_named_in_a_header(http):
    quiet = {
        "user": "anna",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "functions": None,
        "logit_bias": {},
        "modalities": ["text"],
    }
    response = http.post("/v1/chat/completions", json={**ASKED, **quiet})
    assert response.status_code == 200
    assert "x-manyhands-ignored" not in response.headers
    odd = {"shoe_size": 42, "new\r\nline": 1}
    response = http.post("/v1/chat/completions", json={**ASKED, **odd})
    assert response.status_code == 200
    assert response.headers["x-manyhands-ignored"] == "shoe_size, new%0D%0Aline"


def test_two_clients_at_once_get_each_their_own_answer(served):
    def say(number: int) -> list[str]:
        with served.openai() as client:
            asked = {**ASKED, "seed": number % 2, "max_tokens": 30}
            pieces = client.chat.completions.create(**asked, stream=True)
            return [text_of(pieces)]

    with ThreadPoolExecutor(4) as pool:
        first, second, third, fourth = pool.map(say, range(4))
    assert first == third != second == fourth


def test_every_response_has_a_name_of_its_own(http):
    names = [http.get(path).headers["x-request-id"] for path in ("/v1/models", "/nowhere", "/")]
    assert len(set(names)) == 3
    assert all(name.startswith("req_") for name in names)
