"""Peers, clients and servers that go away in the middle of an answer."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import httpx
import openai
import pytest

from api_events import blocks
from api_house import CHAT, DEADLINE_S, house
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.engine.engine import Engine
from manyhands.errors import ResourceError
from manyhands.node.opened import Opened

LONG = {
    "model": "tiny",
    "messages": CHAT,
    "max_tokens": 120,
    "seed": 7,
    "logit_bias": {"1": -100},  # the end token never comes
}
ENDLESS = {**LONG, "max_tokens": 450, "n": 16, "stream": True}


@pytest.fixture(scope="module")
def undisturbed(client):
    return client.chat.completions.create(**LONG).choices[0].message.content


def text_of(said) -> str:
    choices = [choice for one in said if one.value for choice in one.value["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def test_a_stream_goes_on_when_a_peer_is_killed_and_says_how_long_it_took(llama, undisturbed):
    with house(llama) as built, built.http() as http:
        killing = built.begin(built.kill_at(1, 60))
        asked = {**LONG, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=asked) as response:
            said = list(blocks(response.iter_lines()))
        killing.result(DEADLINE_S)
        assert said[-1].is_done
        assert text_of(said) == undisturbed
        remarks = [one.comment for one in said if one.comment.startswith("manyhands ")]
        remark, label = [json.loads(text.removeprefix("manyhands ")) for text in remarks]
        assert remark["choice"] == 0
        assert 0 < remark["recovered_s"] < DEADLINE_S
        (kernels,) = label["kernels"]
        assert kernels.startswith("numpy-fp32-")


def test_a_whole_answer_and_the_usual_client_notice_nothing_but_a_header(llama, undisturbed):
    with house(llama) as built, built.openai() as client:
        killing = built.begin(built.kill_at(2, 60))
        raw = client.chat.completions.with_raw_response.create(**LONG)
        killing.result(DEADLINE_S)
        assert raw.parse().choices[0].message.content == undisturbed
        assert float(raw.headers["x-manyhands-recovered-s"]) > 0
        assert raw.headers["x-manyhands-kernels"].startswith("numpy-fp32-")


def thirds_only(opened: Opened) -> Opened:
    """Of the model each peer can load the third it starts with, and nothing besides."""
    thirds, load = even_cuts(len(opened.model.spec.layers), 3), opened.model.load
    loaded: set[Span] = set()

    def load_once(span: Span) -> Engine:
        if span not in thirds or span in loaded:
            raise ResourceError(f"layers {span} do not fit here")
        loaded.add(span)
        return load(span)

    return replace(opened, model=replace(opened.model, load=load_once))


def test_when_nobody_can_stand_in_the_stream_ends_with_an_error(llama, undisturbed):
    settings = Settings(stand_in_wait_s=0.2, recovery_deadline_s=5.0)
    with house(llama, settings=settings, change=thirds_only) as built, built.http() as http:
        killing = built.begin(built.kill_at(1, 60))
        asked = {**LONG, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=asked) as response:
            assert response.status_code == 200
            said = list(blocks(response.iter_lines()))
        killing.result(DEADLINE_S)
        assert not any(one.is_done for one in said)
        assert said[-1].name == "error"
        assert said[-1].value["error"]["type"] == "server_error"
        assert said[-1].value["error"]["code"] in ("no_stand_in", "deadline", "resource")
        assert text_of(said[:-1])
        together = min(len(undisturbed), len(text_of(said[:-1])))
        assert text_of(said[:-1])[:together] == undisturbed[:together]
        # and before the first token it is a status of its own
        refused = http.post("/v1/chat/completions", json=asked)
        assert refused.status_code == 503, refused.text
        assert refused.headers["retry-after"]
        assert http.get("/health").json() == {"status": "layers are not loaded yet"}
        with built.openai() as client, pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**LONG)


def test_a_client_that_leaves_ends_its_answer_at_every_stage(served, http):
    # looked for from the beginning: the first line may be out before a stage holds anything
    watching = served.begin(served.until(lambda: served.sessions() > 0 and held(served) > 0))
    with http.stream("POST", "/v1/chat/completions", json=ENDLESS) as response:
        next(response.iter_lines())
        watching.result(DEADLINE_S)
    served.run(served.until(lambda: served.sessions() == 0 and held(served) == 0))


def test_a_client_that_leaves_before_a_whole_answer_ends_it_too(served):
    patience = httpx.Timeout(DEADLINE_S, read=0.5)
    body = {**LONG, "max_tokens": 450, "n": 16}
    with served.http() as http, pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=body, timeout=patience)
    served.run(served.until(lambda: served.sessions() == 0 and held(served) == 0))


def test_leaving_does_not_disturb_another_client(served, undisturbed):
    said = []

    def ask() -> None:
        with served.openai() as client:
            said.append(client.chat.completions.create(**LONG).choices[0].message.content)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(3):
        with (
            served.http() as http,
            http.stream("POST", "/v1/chat/completions", json=ENDLESS) as response,
        ):
            next(response.iter_lines())
    asking.join(DEADLINE_S)
    assert said == [undisturbed]


def held(built) -> int:
    """Session memories at all stages."""
    return sum(len(node.worker._memories.all()) for node in built.swarm.alive().values())
