"""`hands run` in a real terminal: a chat that can be stopped and left, at any moment."""

import os
import re
import signal
import subprocess
import sys

import psutil
import pytest

pytest.importorskip("pty", reason="Windows has no pty")

from terminal import Terminal
from verbs import frozen_children

from manyhands.cli.console import Console
from manyhands.cli.run import _Served
from manyhands.cli.serve import ServeOptions
from manyhands.domain.settings import Settings
from manyhands.errors import PeerLost

pytestmark = pytest.mark.timeout(180)
ANY_PORT = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")


def test_a_person_talks_stops_an_answer_and_leaves(tmp_path):
    with Terminal("run", *ANY_PORT, home=tmp_path) as terminal:
        terminal.until(">>> ")
        assert "chat: http://127.0.0.1:" in terminal.shown
        terminal.type("Tell me a story about an otter called Pelliwock.\n")
        terminal.until("a second")
        assert re.search(r"\d+ tokens, [\d.]+ a second", terminal.shown)
        terminal.type("/set max_tokens 100000\n")
        terminal.until("max_tokens is 100000")
        terminal.type("Another one!\n")
        terminal.until("Another one!\r\n".strip())
        terminal.type("\x03")  # stops the answer if it still runs, else leaves: both end well
        terminal.type("/quit\n")
        assert terminal.end() == 0, terminal.shown
        assert "Traceback" not in terminal.shown


def test_the_end_of_input_leaves_and_ctrl_c_at_the_prompt_too(tmp_path):
    for key in ("\x04", "\x03"):
        with Terminal("run", *ANY_PORT, home=tmp_path) as terminal:
            terminal.until(">>> ")
            terminal.wait(0.5)  # readline hears a signal only once it waits for keys
            terminal.type(key)
            assert terminal.end() == 0, terminal.shown
            assert "Traceback" not in terminal.shown


@pytest.mark.slow
def test_ctrl_c_while_it_loads_is_no_success_and_leaves_nothing(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = ("run", "--peers", "2", *ANY_PORT)
    with Terminal(*words, home=tmp_path / "home", TMPDIR=str(temporary)) as terminal:
        children = frozen_children(terminal.process)
        terminal.type("\x03")
        assert terminal.end() == 130, terminal.shown
        assert "Traceback" not in terminal.shown
        assert not psutil.wait_procs(children, timeout=30)[1]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "hang up"])
def test_however_it_is_asked_to_end_no_key_stays(how, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = ("run", "--peers", "2", *ANY_PORT)
    with Terminal(*words, home=tmp_path / "home", TMPDIR=str(temporary)) as terminal:
        terminal.until(">>> ")
        terminal.wait(1.0)  # readline hears a signal only once it waits for keys
        assert list(temporary.glob("*/peer-*/keys/*.key"))
        if how == "hang up":
            terminal.hang_up()
            terminal.process.wait(60)
        else:
            terminal.process.send_signal(getattr(signal, how))
            assert terminal.end() == 0, terminal.shown
            assert "Traceback" not in terminal.shown
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "home" / "running").iterdir()) == []


def test_a_swarm_that_fell_while_a_person_talked_is_told():
    served = _Served(Console(as_json=False), ServeOptions(("storyteller",)), Settings())
    served.raise_failure()
    served._told.put("http://127.0.0.1:9")
    served._told.put(PeerLost("it fell"))
    with pytest.raises(PeerLost, match="it fell"):
        served.raise_failure()


def test_a_closed_standard_input_is_the_end_of_the_talk(tmp_path):
    words = f"exec {sys.executable} -m manyhands.cli.app run {' '.join(ANY_PORT)} <&-"
    ran = subprocess.run(
        ["/bin/sh", "-c", words],
        env={**os.environ, "MANYHANDS_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_model_that_is_not_there_is_said_and_nothing_starts(tmp_path):
    with Terminal("run", "no-such-model", home=tmp_path) as terminal:
        assert terminal.end() == 2
        assert "is no folder" in terminal.shown
        assert "Traceback" not in terminal.shown
