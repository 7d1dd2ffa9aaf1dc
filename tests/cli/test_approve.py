"""`hands approve` and what is typed in the terminal of `hands serve`: yes and no to newcomers."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

import pytest
from verbs import Verb, done

pytestmark = pytest.mark.timeout(180)
PORTS = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")


@pytest.fixture
def serving(tmp_path):
    with Verb("serve", *PORTS, home=tmp_path / "one") as verb:
        verb.event("coverage")
        yield verb


def door(serving) -> str:
    return next(event["door"] for event in serving.events if event["event"] == "ready")


def test_a_device_that_shows_the_code_is_let_in_by_one_command(serving, tmp_path):
    with Verb("join", door(serving), home=tmp_path / "two") as newcomer:
        shown = newcomer.event("asking")["code"]
        asked = serving.event("newcomer")
        assert asked["code"] == shown
        listed = done("approve", home=tmp_path / "one")
        assert shown in listed.stdout
        assert asked["name"] in listed.stdout
        wrong = "000-000" if shown != "000-000" else "111-111"
        refused = done("approve", wrong, home=tmp_path / "one")
        assert refused.returncode == 2
        assert "somebody stands between" in refused.stderr
        said = done("approve", shown.replace("-", ""), home=tmp_path / "one")
        assert said.returncode == 0, said
        assert f"({shown}) is let in" in said.stdout
        newcomer.event("ready")
        assert newcomer.interrupt() == 0
    assert "nobody waits" in done("approve", home=tmp_path / "one").stdout


def test_a_device_that_is_refused_reads_so(serving, tmp_path):
    with Verb("join", door(serving), home=tmp_path / "two") as newcomer:
        newcomer.event("asking")
        serving.event("newcomer")
        assert done("approve", "--deny", home=tmp_path / "one").returncode == 0
        assert newcomer.event("error")["message"] == (
            "not let in: whoever runs the swarm said no to this device"
        )


def test_only_whoever_runs_the_swarm_may_let_in(serving):
    url = next(event["url"] for event in serving.events if event["event"] == "ready")
    body = json.dumps({"code": "123-456", "approve": True}).encode()
    for key in ({}, {"X-Manyhands-Control": "guess"}, {"Authorization": "Bearer guess"}):
        headers = {"Content-Type": "application/json", **key}
        asked = urllib.request.Request(f"{url}/swarm/newcomers", body, headers)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asked, timeout=20)


def test_nothing_runs_here_is_the_users_error(tmp_path):
    said = done("approve", home=tmp_path)
    assert said.returncode == 2
    assert "nothing runs here" in said.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a pty is needed")
@pytest.mark.parametrize(("verb", "yes"), [("serve", "y"), ("run", "/approve")])
def test_who_runs_it_in_a_terminal_answers_there(verb, yes, tmp_path):
    from terminal import Terminal

    with Terminal(verb, *PORTS, home=tmp_path / "one") as screen:
        screen.until("ready to answer")
        place = screen.shown.split("hands join ")[1].split()[0]
        with Verb("join", place, home=tmp_path / "two") as newcomer:
            code = newcomer.event("asking")["code"]
            screen.until(f"wants to join; code {code}")
            screen.type(f"{yes}\n")
            screen.until("let in")
            newcomer.event("ready")
            assert newcomer.interrupt() == 0
