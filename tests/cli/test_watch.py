"""`hands status --watch`: on a terminal one screen, else a line a change; a loss is said."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from verbs import Verb, done
from web import web

from manyhands.cli.http import Api
from manyhands.cli.watch import looks
from manyhands.errors import ManyhandsError, PeerLost, UserError

pytestmark = pytest.mark.timeout(180)
ANY_PORT = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home):
    with Verb("serve", *ANY_PORT, home=home) as verb:
        verb.event("coverage")
        yield verb


def swarm(tokens: int = 0, peers: int = 0) -> bytes:
    peer = {
        "id": "a", "short": "a", "is_me": True, "kernels": "numpy", "room_bytes": 0,
        "device": {"memory_bytes": 1}, "holdings": [],
    }  # fmt: skip
    return json.dumps({"models": [], "peers": [peer] * peers, "tokens": tokens}).encode()


class Said:
    """A server of a row of answers; the last one is said again. Bytes are 200, None is 503."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, *_):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return (200, answer) if answer is not None else (503, b"{}")


def test_tokens_a_second_are_counted_between_looks_and_not_across_a_restart():
    clock = iter(range(100))
    with web(Said(swarm(10), swarm(40), swarm(60), swarm(5))) as url:
        seen = looks(lambda: Api(url), lambda: float(next(clock)), lambda _: None)
        assert [next(seen).tok_s for _ in range(4)] == [0.0, 30.0, 25.0, 0.0]


def test_a_swarm_that_goes_away_is_said_and_found_again_where_it_is_now():
    where = []
    with web(Said(swarm(peers=1))) as url:
        where.append(url)
        seen = looks(lambda: Api(where[-1]), sleep=lambda _: None)
        assert next(seen).problem is None
    lost = next(seen)
    assert "does not answer" in lost.problem
    assert "Looking for it" in lost.problem
    assert len(lost.swarm["peers"]) == 1
    with web(Said(swarm(peers=2))) as url:
        where.append(url)
        back = next(seen)
    assert (back.problem, len(back.swarm["peers"]), back.url) == (None, 2, url)


def test_what_is_wrong_at_first_ends_it():
    def nothing_here():
        raise UserError("nothing runs here")

    with pytest.raises(UserError):
        next(looks(nothing_here))
    with pytest.raises(PeerLost):
        next(looks(lambda: Api("http://127.0.0.1:9")))
    for answer in (b"[]", b'{"models": 7}', b"7"):
        with web(Said(answer)) as url, pytest.raises(ManyhandsError, match="is no `hands serve`"):
            next(looks(lambda url=url: Api(url)))


def test_without_a_terminal_each_change_is_a_line_and_an_interrupt_is_a_good_end(
    served, home, tmp_path
):
    ready = next(event for event in served.events if event["event"] == "ready")
    with Verb("status", "--watch", home=home) as watching:
        assert len(watching.event("status")["peers"]) == 1
        with Verb("join", ready["door"], "--invite", ready["invite"], home=tmp_path) as joined:
            joined.event("ready")
            while not any(len(one.get("peers", ())) == 2 for one in watching.events):
                watching.event("status")
            assert joined.interrupt() == 0
        assert watching.interrupt() == 0, str(watching)
        assert all(before != after for before, after in pairwise(watching.events))
        assert not watching.complaints


@pytest.mark.skipif(sys.platform == "win32", reason="a pty is needed")
@pytest.mark.parametrize("columns", ["100", "36"])
def test_on_a_terminal_it_renews_itself_until_ctrl_c(columns, tmp_path):
    from terminal import Terminal

    home = tmp_path / "one"
    with Verb("serve", *ANY_PORT, home=home) as serving:
        serving.event("coverage")
        with Terminal("status", "--watch", home=home, COLUMNS=columns, LINES="24") as screen:
            screen.until("storyteller")
            screen.until("every layer is held")
            serving.process.send_signal(signal.SIGKILL)
            screen.until("does not answer" if columns == "100" else "http://")
            with Verb("serve", *ANY_PORT, home=home) as again:
                url = again.event("ready")["url"]
                screen.until(url)
                screen.type("\x03")
                assert screen.end() == 0
        assert "Traceback" not in screen.shown
        widest = max(len(line.rstrip()) for line in screen.shown.replace("\r", "\n").split("\n"))
        assert widest <= int(columns)


def test_nothing_runs_here_and_a_reader_that_leaves(served, home, tmp_path):
    said = done("status", "--watch", home=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "nothing runs here" in said.stderr
    command = [sys.executable, "-m", "manyhands.cli.app", "status", "--watch"]
    environment = {**os.environ, "MANYHANDS_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as watching:
        assert json.loads(watching.stdout.readline())["event"] == "status"
        watching.send_signal(signal.SIGTERM)
        until_s = time.monotonic() + 20
        while watching.poll() is None and time.monotonic() < until_s:
            time.sleep(0.05)
        assert watching.returncode == 0
