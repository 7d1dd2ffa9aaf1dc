"""Several models in one swarm: served by name, shared by who joins, each with what it needs."""

import json
import time
import urllib.error
import urllib.request

import pytest
from verbs import Verb

import manyhands as mh
import tiny
from founding_house import SETTINGS
from manyhands.cli.serve import ServeOptions, _shares
from manyhands.cli.words import device_here
from manyhands.errors import UserError
from manyhands.node.opened import open_model

pytestmark = pytest.mark.timeout(180)
PROMPT = [5, 9, 200, 31]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return [tiny.make(case, place / case) for case in ("llama", "qwen3")]


def asked(url, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}{path}", data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def text_of(url, model):
    body = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    return asked(url, "/v1/completions", body)["choices"][0]["text"]


def ready_elsewhere(swarm):
    """The models of which another peer has layers loaded."""
    others = (peer for peer in swarm["peers"] if not peer["is_me"])
    held = (one for peer in others for one in peer["holdings"])
    return {one["model"] for one in held if one["state"] == "ready"}


def test_two_models_answer_by_name_and_a_joiner_takes_of_both(folders, tmp_path):
    words = ("serve", *map(str, folders), "--engine", "numpy", "--http-port", "0")
    alone = {}
    for folder in folders:
        with mh.load(folder, engine="numpy") as model:
            alone[folder.name] = model.generate(PROMPT, max_tokens=8)
    with Verb(*words, home=tmp_path / "a") as one:
        ready = one.event("ready")
        url = ready["url"]
        names = {model["id"] for model in asked(url, "/v1/models")["data"]}
        assert names == {"llama", "qwen3"}
        assert {name: text_of(url, name) for name in names} == alone
        with pytest.raises(urllib.error.HTTPError, match="404"):
            text_of(url, "bloom")
        join = ("join", ready["door"], "--invite", ready["invite"])
        with Verb(*join, home=tmp_path / "b") as two:
            held = {event["model"]: event for event in (two.event("ready"), two.event("ready"))}
            assert held.keys() == names
            until_s = time.monotonic() + 60
            while ready_elsewhere(asked(url, "/swarm")) != names:  # its record is on the way
                assert time.monotonic() < until_s
                time.sleep(0.1)
            assert {name: text_of(url, name) for name in names} == alone
            assert two.interrupt() == 0
        assert one.interrupt() == 0


def test_a_later_model_gets_what_is_left_and_layers_nobody_holds_come_first(folders, tmp_path):
    opened = [open_model(folder, SETTINGS, engine="numpy") for folder in folders]
    options = ServeOptions(tuple(map(str, folders)))
    whole = [one.model.spec.span for one in opened]
    assert _shares(options, opened, device_here(None), SETTINGS) == whole
    tight = device_here("2.2MB")
    first, second = _shares(options, opened, tight, SETTINGS)
    assert first == whole[0]
    assert second is None or second != whole[1]


@pytest.mark.parametrize("words", [("--peers", "2"), ("--span", "0:2")])
def test_what_is_of_one_model_is_refused_with_several(folders, tmp_path, words):
    opened = [open_model(folder, SETTINGS, engine="numpy") for folder in folders]
    options = ServeOptions(
        tuple(map(str, folders)),
        peers=2 if words[0] == "--peers" else 0,
        spans=("0:2",) if words[0] == "--span" else (),
    )
    with pytest.raises(UserError, match="are of one model"):
        _shares(options, opened, device_here(None), SETTINGS)


def test_two_models_of_one_name_are_refused(folders, tmp_path):
    (tmp_path / "llama").symlink_to(folders[0])
    with Verb("serve", str(folders[0]), str(tmp_path / "llama"), home=tmp_path / "h") as verb:
        assert "two models are called llama" in verb.event("error")["message"]
