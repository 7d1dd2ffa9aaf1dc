"""Asking by HTTP: what is no address, no key, or no swarm is one line and the right exit code."""

import json

import pytest
from verbs import done
from web import events, refusal, web

from manyhands.cli.http import Api, find_api
from manyhands.errors import ManyhandsError, PeerError, PeerLost, UserError
from manyhands.store.home import Home


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:99999", "http://[::1", "http://127.0.0.1:abc", "http://127.0.0.1:0",
        "https://127.0.0.1", "127.0.0.1:7700", "http://", "", "http://a\nb", "http://bücher.de",
    ],
)  # fmt: skip
def test_what_is_no_address_is_the_users_error(url, tmp_path):
    with pytest.raises(UserError, match="is no address"):
        find_api(Home(tmp_path), url, None)


@pytest.mark.parametrize("key", ["two\nlines", "ключ", "a\x7f"])
def test_a_key_that_no_header_carries_is_the_users_error(key, tmp_path):
    with pytest.raises(UserError, match="API key"):
        find_api(Home(tmp_path), "http://127.0.0.1:9", key)


@pytest.mark.parametrize(
    "data",
    [b"<html>", b"", b"[]", b"7", b"{}", b'{"models": 7}', b'{"models": [{}], "peers": []}',
     b'{"models": [{"name": "a", "layers": "x"}], "peers": [7]}', b"\xff", b"[" * 100_000],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["status", "chat"])
def test_another_web_server_is_told_from_a_swarm(verb, data, tmp_path):
    with web(lambda *_: (200, data)) as url:
        shown = done(verb, "--url", url, home=tmp_path)
    assert shown.returncode == 1, shown.stderr
    assert "is no `hands serve`" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, refusal("too hot"), UserError),
        (401, refusal("no key"), UserError),
        (503, refusal("layers 3:5 are missing", "server_error", "service_unavailable"), PeerError),
        (500, refusal("a bug", "server_error", "internal_error"), ManyhandsError),
        (502, b"<html>", ManyhandsError),
    ],
)
def test_a_refusal_has_the_exit_code_of_whose_fault_it_is(status, body, kind):
    with web(lambda *_: (status, body)) as url, pytest.raises(ManyhandsError) as told:
        Api(url).get("/swarm")
    assert type(told.value) is kind


def test_an_answer_that_breaks_in_the_middle_is_no_fault_of_the_user():
    broken = json.loads(refusal("nobody stands in", "server_error", "service_unavailable"))
    with web(lambda *_: (200, events({"choices": []}, broken))) as url:
        answer = Api(url).stream("/v1/completions", {"prompt": "a"})
        assert next(answer) == {"choices": []}
        with pytest.raises(PeerError, match="nobody stands in"):
            next(answer)


def test_nobody_there_is_said():
    with web(lambda *_: (200, b"{}")) as url:
        pass
    with pytest.raises(PeerLost, match="does not answer"):
        Api(url).get("/swarm")


def test_an_answer_that_ends_without_its_end_was_cut_off():
    whole = events({"choices": []})
    cut = whole[: whole.index(b"data: [DONE]")] if b"[DONE]" in whole else whole
    with web(lambda *_: (200, cut)) as url:
        answer = Api(url).stream("/v1/completions", {"prompt": "a"})
        assert next(answer) == {"choices": []}
        with pytest.raises(PeerLost, match="broke off in mid-answer"):
            next(answer)
