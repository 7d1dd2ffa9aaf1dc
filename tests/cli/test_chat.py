"""A conversation: what is kept of it, what can be set, and others' texts on our terminal."""

import json

import pytest
from web import events, refusal, web

from manyhands.cli.chat import Chat, open_chat, talk
from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.status import status
from manyhands.errors import ManyhandsError, UserError


def piece(text):
    return {"choices": [{"delta": {"content": text}}]}


def test_a_failed_question_leaves_no_trace_in_the_next_one():
    heard = []

    def answer(_method, _path, body):
        heard.append(body["messages"])
        if len(heard) == 1:
            return 503, refusal("broken", "server_error", "service_unavailable")
        return 200, events(piece("yes"))

    with web(answer) as url:
        chat = Chat(Api(url), "m")
        with pytest.raises(ManyhandsError):
            list(chat.say("lost"))
        assert list(chat.say("again")) == ["yes"]
        assert list(chat.say("and?")) == ["yes"]
    assert heard[1] == [{"role": "user", "content": "again"}]
    assert [message["content"] for message in heard[2]] == ["again", "yes", "and?"]


def test_a_question_stopped_before_its_answer_is_taken_back_and_one_stopped_later_is_kept():
    with web(lambda *_: (200, events(piece("a"), piece("b")))) as url:
        chat = Chat(Api(url), "m")
        chat.say("never begun").close()
        assert chat.messages == []
        answer = chat.say("begun")
        assert next(answer) == "a"
        answer.close()
    assert [message["content"] for message in chat.messages] == ["begun", "a"]


def test_tokens_are_counted_by_who_made_them():
    counted = {"choices": [], "usage": {"completion_tokens": 5}}
    with web(lambda *_: (200, events(piece("a"), piece("b"), counted))) as url:
        chat = Chat(Api(url), "m")
        assert list(chat.say("x")) == ["a", "b"]
    assert chat.tokens == 5


@pytest.mark.parametrize("event", [{"choices": [7]}, {"choices": 7}, {"usage": 7}])
def test_an_answer_of_another_form_is_no_swarms(event):
    answering = web(lambda *_: (200, events(event)))
    with answering as url, pytest.raises(ManyhandsError, match="is no `hands serve`"):
        list(Chat(Api(url), "m").say("x"))


def test_what_is_set_is_a_number_and_an_instruction_has_words():
    chat = Chat(Api("http://127.0.0.1:9"), "m")
    assert chat.command("/set temperature 0.5") == "temperature is 0.5"
    for words in ("temperature nan", "temperature inf", "seed 1.5", "max_tokens many"):
        with pytest.raises(UserError, match="is no number"):
            chat.command(f"/set {words}")
    assert chat.values == {"max_tokens": 512, "temperature": 0.5}
    assert "/quit" in chat.command("/system")
    assert chat.messages == []
    chat.command("/system  Be brief.")
    assert chat.messages == [{"role": "system", "content": "Be brief."}]


def test_a_closed_standard_input_ends_the_talk(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    talk(Chat(Api("http://127.0.0.1:9"), "m"), Console(as_json=False))


def test_a_members_words_move_no_cursor_and_its_sizes_are_none_below_nothing(capsys):
    peer = {
        "short": "\x1b[2J\x9bevil", "is_me": False, "kernels": "numpy\x1b]0;title\x07\r",
        "device": {"memory_bytes": 1}, "room_bytes": 2**52, "holdings": [],
    }  # fmt: skip
    swarm = {"models": [{"name": "m", "layers": 1, "coverage": []}], "peers": [peer]}
    with web(lambda *_: (200, json.dumps(swarm).encode())) as url:
        status(Console(as_json=False), Api(url))
    shown = capsys.readouterr().out
    assert not any(sign in shown for sign in "\x1b\x9b\x07\r")
    assert " 0 bytes" in shown


def test_status_says_who_gives_nothing_and_why(capsys):
    peers = [
        {
            "short": name, "is_me": False, "kernels": "numpy", "device": {"memory_bytes": 1},
            "room_bytes": 0, "paused": paused,
            "holdings": [{"model": "m", "first": 0, "last": 2, "state": state}],
        }
        for name, paused, state in (("anna", None, "ready"), ("ben", "it leaves", "draining"))
    ]  # fmt: skip
    swarm = {"models": [{"name": "m", "layers": 2, "coverage": []}], "peers": peers}
    with web(lambda *_: (200, json.dumps(swarm).encode())) as url:
        status(Console(as_json=False), Api(url))
    shown = capsys.readouterr().out
    assert "anna  ██ " in shown
    assert "ben  ▓▓ " in shown
    assert shown.count("gives nothing now") == 1
    assert "gives nothing now: it leaves" in shown


def test_a_model_that_is_not_served_is_named():
    swarm = {"models": [{"name": "m", "chats": True}], "peers": []}
    with web(lambda *_: (200, json.dumps(swarm).encode())) as url:
        assert open_chat(Api(url), None).model == "m"
        with pytest.raises(UserError, match="there is m"):
            open_chat(Api(url), "n")
