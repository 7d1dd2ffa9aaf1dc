"""`hands run` in a real terminal: a chat that can be stopped and left, at any moment."""

import re

import pytest

pytest.importorskip("pty", reason="Windows has no pty")

from terminal import Terminal

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


def test_ctrl_c_while_it_loads_leaves_without_a_traceback(tmp_path):
    with Terminal("run", "--peers", "2", *ANY_PORT, home=tmp_path) as terminal:
        terminal.wait(0.7)
        terminal.type("\x03")
        assert terminal.end() in (0, 130), terminal.shown
        assert "Traceback" not in terminal.shown


def test_a_model_that_is_not_there_is_said_and_nothing_starts(tmp_path):
    with Terminal("run", "no-such-model", home=tmp_path) as terminal:
        assert terminal.end() == 2
        assert "is no folder" in terminal.shown
        assert "Traceback" not in terminal.shown
