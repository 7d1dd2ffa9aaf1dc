"""/v1/embeddings answers openai-python as OpenAI does; what makes no vectors is refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest

import tiny
from api_house import house

PATH = "/v1/embeddings"
TEXTS = ["Many hands", "make light work", "Grüße 東京 🙂"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    with house(tiny.make("bert", tmp_path_factory.mktemp("bert"))) as built:
        yield built


@pytest.fixture(scope="module")
def asked(encoder):
    with encoder.http() as made:
        yield made


@pytest.fixture(scope="module")
def expected(encoder):
    return encoder.run(encoder.serving.speakers[0].embed(TEXTS)).vectors


def vectors(answer):
    return np.array([one["embedding"] for one in answer.json()["data"]], np.float32)


def test_openai_python_reads_what_the_model_makes(encoder, expected):
    with encoder.openai() as client:
        packed = client.embeddings.create(model="tiny", input=TEXTS)
        plain = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    for answer in (packed, plain):
        assert answer.model == "tiny"
        assert [one.index for one in answer.data] == [0, 1, 2]
        made = np.array([one.embedding for one in answer.data], np.float32)
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, rtol=1e-6)


def test_a_text_a_list_and_their_token_ids_make_the_same_vectors(encoder, asked, expected):
    speaker = encoder.serving.speakers[0]
    ids = [list(speaker.ids(text)) for text in TEXTS]
    count = sum(map(len, ids))
    for form in (TEXTS, ids):
        answer = asked.post(PATH, json={"input": form, "user": "somebody"})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["object"], body["data"][0]["object"]) == ("list", "embedding")
        assert body["usage"] == {"prompt_tokens": count, "total_tokens": count}
        assert answer.headers["x-manyhands-kernels"].startswith("numpy-fp32")
        np.testing.assert_allclose(vectors(answer), expected, rtol=0, atol=2e-6)
    for form in (TEXTS[0], ids[0]):
        answer = asked.post(PATH, json={"input": form})
        np.testing.assert_allclose(vectors(answer), expected[:1], rtol=0, atol=2e-6)


def test_base64_is_little_endian_float32(asked, expected):
    answer = asked.post(PATH, json={"input": TEXTS[0], "encoding_format": "base64"})
    packed = base64.b64decode(answer.json()["data"][0]["embedding"])
    np.testing.assert_allclose(np.frombuffer(packed, "<f4"), expected[0], rtol=0, atol=2e-6)


BAD = [
    ({"input": []}, "input", "invalid_type"),
    ({"input": [[]]}, "input", "invalid_type"),
    ({"input": 5}, "input", "invalid_type"),
    ({}, "input", "invalid_type"),
    ({"input": "a", "model": "gpt-9"}, "model", "model_not_found"),
    ({"input": "a", "encoding_format": "int8"}, "encoding_format", "invalid_value"),
    ({"input": "a", "dimensions": 32}, "dimensions", "unsupported_parameter"),
    ({"input": "a", "normalize": False}, "normalize", "unsupported_parameter"),
    (
        {"input": "a", "truncate_prompt_tokens": 5},
        "truncate_prompt_tokens",
        "unsupported_parameter",
    ),
    ({"input": [[5, 320]]}, None, "invalid_request"),
    ({"input": [[5] * 513]}, "input", "context_length_exceeded"),
    ({"input": "a" * 20000}, "input", "context_length_exceeded"),
]


@pytest.mark.parametrize(("body", "param", "code"), BAD, ids=[str(b[0])[:40] for b in BAD])
def test_what_cannot_be_made_is_refused_in_openais_form(asked, body, param, code):
    answer = asked.post(PATH, json=body)
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert error["message"]


def test_the_same_dimensions_and_unknown_parameters_do_no_harm(asked):
    answer = asked.post(PATH, json={"input": "a", "dimensions": 64, "colour": "red"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-manyhands-ignored"] == "colour"


def test_a_language_model_makes_no_vectors_and_says_so(http):
    answer = http.post(PATH, json={"input": "a"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "not_served")
    assert "goes on with texts" in error["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ],
)
def test_an_encoder_goes_on_with_no_text_and_says_so(asked, path, body):
    answer = asked.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "not_served")
    assert "is an encoder" in error["message"]


def test_a_peer_killed_on_the_way_changes_no_vector(tmp_path):
    with house(tiny.make("bert", tmp_path / "bert")) as built, built.http() as http:
        ids = [[3 + (7 * i * i + n) % 150 for i in range(20)] for n in range(80)]
        expected = built.run(built.serving.speakers[0].embed(ids[:5])).vectors
        sessions = built.swarm.owner.owner._sessions

        async def kill():
            await built.until(lambda: any(s.ring.sequence > 1 for s in sessions.values()))
            built.swarm.kill(1)

        killing = built.begin(kill())
        answer = http.post(PATH, json={"input": ids})
        killing.result(30)
        assert answer.status_code == 200, answer.text
        assert float(answer.headers["x-manyhands-recovered-s"].split(",")[0]) > 0
        np.testing.assert_allclose(vectors(answer)[:5], expected, rtol=0, atol=2e-6)
