"""What cannot be answered is refused in OpenAI's form: the field, a code, what to do."""

from __future__ import annotations

import json
import shutil

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_house import CHAT, DEADLINE_S, house
from manyhands.api.bodies import ChatBody, CompletionBody
from manyhands.api.envelope import MOST_BODY_BYTES
from manyhands.api.parameters import HARMLESS, REFUSED

CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"


def chat(**changes):
    return CHATS, {"model": "tiny", "messages": CHAT, "max_tokens": 2, **changes}


def text(**changes):
    return TEXTS, {"model": "tiny", "prompt": "a", "max_tokens": 2, **changes}


def said(content):
    return chat(messages=[{"role": "user", "content": content}])


BAD = [
    (chat(model="gpt-9"), 404, "model", "model_not_found"),
    (text(model="half\ud800"), 404, "model", "model_not_found"),
    (chat(messages=[]), 400, "messages", "invalid_value"),
    ((CHATS, {"model": "tiny"}), 400, "messages", "missing_required_parameter"),
    ((TEXTS, {"model": "tiny"}), 400, "prompt", "invalid_type"),
    (chat(messages="hello"), 400, "messages", "invalid_value"),
    (chat(messages=[{"role": "king", "content": "x"}]), 400, "messages[0].role", "invalid_value"),
    (chat(messages=[{"role": "user"}]), 400, "messages[0].content", "unsupported_parameter"),
    (said(5), 400, "messages[0].content", "invalid_value"),
    (
        said([{"type": "image_url", "image_url": {"url": "data:,"}}]),
        400,
        "messages[0].content[0]",
        "unsupported_parameter",
    ),
    (said([{"type": "text"}]), 400, "messages[0].content[0].text", "unsupported_parameter"),
    (
        chat(messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}]),
        400,
        "messages[0].role",
        "unsupported_parameter",
    ),
    (
        chat(messages=[{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]),
        400,
        "messages[0].tool_calls",
        "unsupported_parameter",
    ),
    # the model's own template refuses a system message that is not the first
    (chat(messages=[*CHAT, {"role": "system", "content": "x"}]), 400, None, "invalid_request"),
    (chat(temperature=-1), 400, "temperature", "invalid_value"),
    (chat(temperature="hot"), 400, "temperature", "invalid_value"),
    (chat(top_p=0), 400, "top_p", "invalid_value"),
    (chat(min_p=2), 400, "min_p", "invalid_value"),
    (chat(presence_penalty=1e9), 400, "presence_penalty", "invalid_value"),
    (chat(top_k=-2), 400, "top_k", "invalid_value"),
    (chat(max_tokens=0), 400, "max_tokens", "invalid_value"),
    (chat(max_tokens=True), 400, "max_tokens", "invalid_value"),
    (chat(max_completion_tokens=-1), 400, "max_completion_tokens", "invalid_value"),
    (chat(seed=2**64), 400, "seed", "invalid_value"),
    (chat(n=0), 400, "n", "invalid_value"),
    (chat(n=17), 400, "n", "invalid_value"),
    (chat(stop=""), 400, "stop", "invalid_type"),
    (chat(stop=["a", ""]), 400, "stop", "invalid_type"),
    (chat(stop=5), 400, "stop", "invalid_type"),
    (chat(logit_bias={"320": 1}), 400, "logit_bias", "invalid_value"),
    (chat(logit_bias={"word": 1}), 400, "logit_bias", "invalid_value"),
    (chat(logit_bias=[1]), 400, "logit_bias", "invalid_value"),
    (chat(top_logprobs=2), 400, "top_logprobs", "invalid_value"),
    (chat(logprobs=True, top_logprobs=21), 400, "top_logprobs", "invalid_value"),
    (chat(stream_options={"include_usage": True}), 400, "stream_options", "invalid_value"),
    (chat(tools=[{"type": "function"}]), 400, "tools", "unsupported_parameter"),
    (chat(tool_choice="required"), 400, "tool_choice", "unsupported_parameter"),
    (
        chat(response_format={"type": "json_schema", "json_schema": {}}),
        400,
        "response_format",
        "unsupported_parameter",
    ),
    (chat(audio={"voice": "x"}), 400, "audio", "unsupported_parameter"),
    (chat(modalities=["audio"]), 400, "modalities", "unsupported_parameter"),
    (chat(reasoning_effort="high"), 400, "reasoning_effort", "unsupported_parameter"),
    (chat(repeat_penalty=1.1), 400, "repeat_penalty", "unsupported_parameter"),
    (text(suffix="end"), 400, "suffix", "unsupported_parameter"),
    (text(best_of=3), 400, "best_of", "unsupported_parameter"),
    (text(echo=True, logprobs=1), 400, "echo", "unsupported_parameter"),
    (text(prompt=""), 200, None, None),  # this tokenizer puts a token of its own before it
    (text(prompt=[]), 400, "prompt", "invalid_type"),
    (text(prompt=[[]]), 400, "prompt", "invalid_type"),
    (text(prompt=["a", 5]), 400, "prompt", "invalid_type"),
    (text(prompt={"text": "a"}), 400, "prompt", "invalid_type"),
    (text(prompt=None), 400, "prompt", "invalid_type"),
    (text(prompt=[320]), 400, None, "invalid_request"),
    (text(prompt=[-1]), 400, None, "invalid_request"),
    (text(prompt="half a character \ud800"), 400, None, "invalid_request"),
    (text(prompt=["a"] * 129), 400, "prompt", "invalid_type"),
    (text(prompt=["a"] * 9, n=16), 400, "prompt", "invalid_request"),
    (text(prompt=[7] * 512), 400, "prompt", "context_length_exceeded"),
    (text(prompt=[7] * 512, stream=True), 400, "prompt", "context_length_exceeded"),
    (said("word " * 2000), 400, "messages", "context_length_exceeded"),
    (chat(logit_bias={str(n): 1 for n in range(2000)}), 400, "logit_bias", "invalid_value"),
]


@pytest.mark.parametrize(
    ("asked", "status", "param", "code"),
    BAD,
    ids=[f"{number}-{param}-{code}" for number, (_, _, param, code) in enumerate(BAD)],
)
def test_bad_input_is_refused_by_name(http, asked, status, param, code):
    path, body = asked
    content = json.dumps(body).encode()
    response = http.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    if status != 200:
        error = response.json()["error"]
        assert (error["param"], error["code"]) == (param, code), error
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert len(error["message"]) > 10


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b'"x"', b"null", b'{"prompt": }', b"\xff\xfe", b"[" * 100_000,
     b'{"max_tokens": ' + b"9" * 5000 + b"}"],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(http, content):
    response = http.post(TEXTS, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_million_mistakes_are_told_as_one(http):
    for wrong in ([0.5] * 1_000_000, [[0.5] * 1_000_000], [[]] * 1_000_000):
        response = http.post(TEXTS, json={"model": "tiny", "prompt": wrong})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "prompt"
    response = http.post(CHATS, json={"model": "tiny", "messages": [{}] * 500_000})
    assert response.json()["error"]["param"] == "messages[0].role"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = sorted({*ChatBody.model_fields, *CompletionBody.model_fields, *REFUSED, *HARMLESS, "odd"})


@settings(max_examples=150)
@given(st.sampled_from([chat(), text()]), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_is_sent_is_answered_or_refused_and_never_our_mistake(http, asked, changes):
    path, body = asked
    content = json.dumps({**body, **changes, "max_completion_tokens": 2}).encode()
    response = http.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert response.json()["error"]["message"]


def test_a_body_of_another_kind_is_told_what_to_send(http):
    response = http.post(TEXTS, data={"prompt": "a"})
    assert response.status_code == 400
    assert "content-type: application/json" in response.json()["error"]["message"]


def test_a_body_over_the_cap_is_refused_whether_its_length_is_told_or_not(http):
    big = b"x" * (MOST_BODY_BYTES + 1)
    told = http.post(TEXTS, content=big, headers={"content-type": "application/json"})
    pieces = (big[first : first + 65536] for first in range(0, len(big), 65536))
    untold = http.post(TEXTS, content=pieces, headers={"content-type": "application/json"})
    for response in (told, untold):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("GET", "/v1/models/other/name", 404, "model_not_found"),
    ],
)
def test_unknown_places_and_methods_have_the_same_form(http, method, path, status, code):
    response = http.request(method, path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["x-request-id"]


def test_the_client_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model="tiny", prompt=[7] * 600)
    assert raised.value.code == "context_length_exceeded"


def test_a_model_without_a_template_says_which_way_is_open(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "plain")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with house(folder, peers=1) as built, built.http() as http:
        path, body = chat()
        refused = http.post(path, json=body).json()["error"]
        assert refused["code"] == "no_chat_template"
        assert "/v1/completions" in refused["message"]
        path, body = text()
        assert http.post(path, json=body).status_code == 200
        (model,) = http.get("/swarm").json()["models"]
        assert (model["speaks"], model["chats"]) == (True, False)


def test_a_model_without_a_tokenizer_says_so(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    with house(folder, peers=1) as built, built.http() as http:
        for path, body in (chat(), text()):
            response = http.post(path, json=body, timeout=DEADLINE_S)
            assert response.status_code == 400
            assert "tokenizer.json" in response.json()["error"]["message"]
