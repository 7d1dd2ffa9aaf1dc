"""The demo, in a real terminal: three processes, one killed, the same story."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="Windows has no pty")

from terminal import Terminal  # noqa: E402

from manyhands.cli.demo import difference  # noqa: E402


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def showing():
    """One undirected showing in a terminal."""
    with Terminal("demo", "--max-tokens", "90", "--at", "30") as terminal:
        code = terminal.end()
        return code, terminal.shown


@pytest.mark.timeout(180)
def test_a_killed_process_does_not_change_the_story(showing):
    code, shown = showing
    assert code == 0, shown
    assert "identical to an undisturbed run: yes" in shown
    assert re.search(r"peer 2 \(process \d+\) killed", shown)
    assert re.search(r"the next token came \d+ ms after the kill", shown)


@pytest.mark.timeout(180)
def test_it_shows_each_peers_layers_and_bytes_before_and_after(showing):
    _, shown = showing
    assert re.search(r"peer 1 +process \d+ +key [0-9a-f]{8} +layers 0:4 +\d+\.\d MB", shown)
    assert re.search(r"peer 2 +process \d+ +key [0-9a-f]{8} +gone", shown)
    assert len(re.findall(r"peer \d +process", shown)) == 6


@pytest.mark.timeout(180)
def test_it_says_what_this_machine_could_run_and_that_the_model_is_a_toy(showing):
    _, shown = showing
    assert re.search(r"[\d.]+ GB/s", shown)
    assert re.search(r"[\d,.]+ GFLOP/s", shown)
    assert "Llama-3.3-70B" in shown
    assert "toy" in shown


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_viewer_kills_the_peer_whose_key_is_pressed():
    with Terminal("demo", "--no-machine", "--max-tokens", "200", "--at", "190") as terminal:
        terminal.until("Once upon a time")
        terminal.type("3")
        assert terminal.end() == 0, terminal.shown
        assert re.search(r"peer 3 \(process \d+\) killed", terminal.shown)
        assert "identical to an undisturbed run: yes" in terminal.shown


@pytest.mark.timeout(180)
def test_ctrl_c_ends_it_and_leaves_no_process_behind():
    with Terminal("demo", "--no-machine") as terminal:
        terminal.until("Once upon a time")
        pids = [int(pid) for pid in re.findall(r"process (\d+)", terminal.shown)]
        terminal.type("\x03")
        assert terminal.end() == 130, terminal.shown
        assert "Traceback" not in terminal.shown
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)


@pytest.mark.timeout(180)
def test_a_program_gets_one_object_a_line():
    words = ["demo", "--no-machine", "--json", "--max-tokens", "60", "--at", "20", "--kill", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "manyhands.cli.app", *words],
        capture_output=True, text=True, timeout=120, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    last = events[-1]
    assert last["event"] == "done"
    assert last["identical"] is True
    assert last["killed_at"] == 20
    assert last["next_token_s"] > 0
    assert {event["peer"] for event in events if event["event"] == "killed"} == {1}


@pytest.mark.timeout(180)
def test_a_kill_at_the_last_token_claims_no_next_one(tmp_path):
    words = ["demo", "--no-machine", "--json", "--max-tokens", "20", "--at", "20"]
    done = subprocess.run(
        [sys.executable, "-m", "manyhands.cli.app", *words],
        capture_output=True, text=True, timeout=120, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["killed_at"], last["tokens"], last["next_token_s"]) == (20, 20, None)


@pytest.mark.timeout(180)
def test_a_story_is_told_whatever_the_pipe_can_carry_and_no_key_stays(tmp_path):
    words = ["demo", "--no-machine", "--max-tokens", "40", "--at", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "manyhands.cli.app", *words],
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=True, stdin=subprocess.DEVNULL,
        encoding="cp1252",
    )  # fmt: skip
    assert "? peer 2 (process " in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_however_it_is_asked_to_end_no_key_stays(name, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "manyhands.cli.app", "demo", "--no-machine", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert json.loads(process.stdout.readline())["event"] == "peer"
        assert list(tmp_path.glob("*/peer-*/keys/*.key"))
        process.send_signal(getattr(signal, name))
        assert "Traceback" not in process.stderr.read()
        assert process.wait(60) == 130
    assert list(tmp_path.iterdir()) == []


def test_where_two_texts_part_is_said():
    exact = difference([1, 2, 3], [1, 2, 4], is_exact=True)
    assert "the same for 2 tokens" in exact
    assert "report it" in exact
    assert "near-tie" in difference([1, 2], [1, 2, 4], is_exact=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peers", "1"], "take 2 to 9 peers"),
        (["--kill", "4"], "one of them to kill"),
        (["no-such-folder"], "is no folder"),
        (["--max-tokens", "0"], "max_tokens is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--temperature", "nan"], "temperature is nan"),
    ],
)
def test_what_cannot_be_shown_is_said_at_once(words, said):
    done = subprocess.run(
        [sys.executable, "-m", "manyhands.cli.app", "demo", *words],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
