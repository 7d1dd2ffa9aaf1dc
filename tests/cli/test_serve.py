"""`hands serve`, `status` and `chat` as real processes: one swarm, asked from other terminals."""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.request
from dataclasses import replace

import filelock
import psutil
import pytest
from verbs import Verb, done, frozen_children

from founding_house import SETTINGS, founding
from manyhands.cli.console import Console
from manyhands.cli.serve import _invite_again, _tell_coverage
from manyhands.domain.span import Span

pytestmark = pytest.mark.timeout(180)
is_posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
ANY_PORT = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")


def asked(url, **body):
    """A completion of the server at `url`."""
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps({"model": "storyteller", "max_tokens": 12, "seed": 1, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home):
    """A running `hands serve`, and what it said when it was ready."""
    with Verb("serve", *ANY_PORT, home=home) as verb:
        yield verb, verb.event("ready")


def test_it_answers_by_http(served):
    _, ready = served
    text = asked(ready["url"], prompt="Once upon a time")["choices"][0]["text"]
    assert text


def test_status_shows_every_layer_held_by_this_process(served, home):
    shown = done("status", home=home)
    assert shown.returncode == 0, shown.stderr
    assert "███████████" in shown.stdout
    assert "this one" in shown.stdout
    assert "ready to answer" in shown.stdout


def test_a_chat_is_read_from_a_pipe(served, home):
    told = "/set max_tokens 12\nTell me a story about a fox called Mirabo.\n/nonsense\n"
    shown = done("chat", home=home, told=told)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout) > 40
    assert "/quit" in shown.stdout


def test_another_device_joins_by_the_invite_and_leaves_again(served, home, tmp_path):
    serving, ready = served
    with Verb("join", ready["door"], home=tmp_path, MANYHANDS_INVITE=ready["invite"]) as joined:
        assert joined.event("ready")["last"] == 11  # all of it: nothing was missing
        assert serving.event("invite")["invite"] != ready["invite"]
        seen = json.loads(done("status", "--json", home=home).stdout)
        assert len(seen["peers"]) == 2
        assert joined.interrupt() == 0
    until_s = time.monotonic() + 30
    while len(json.loads(done("status", "--json", home=home).stdout)["peers"]) > 1:
        assert time.monotonic() < until_s
    assert asked(ready["url"], prompt="Once")["choices"]


def test_a_model_split_over_processes_survives_each_of_them(tmp_path):
    with Verb("serve", "--peers", "2", *ANY_PORT, home=tmp_path) as verb:
        url = verb.event("ready")["url"]
        before = asked(url, prompt="Once upon a time", max_tokens=40)
        children = psutil.Process(verb.process.pid).children()
        assert len(children) == 2
        children[0].kill()
        assert asked(url, prompt="Once upon a time", max_tokens=40)["choices"] == before["choices"]
        verb.process.kill()  # kill -9 of the API process: its peers must not stay behind
        _, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []


def test_ctrl_c_ends_it_cleanly_and_nothing_is_left_in_the_home_folder(tmp_path):
    with Verb("serve", "--peers", "2", *ANY_PORT, home=tmp_path) as verb:
        verb.event("ready")
        children = psutil.Process(verb.process.pid).children()
        assert list((tmp_path / "running").iterdir())
        assert verb.interrupt() == 0, str(verb)
        assert "Traceback" not in verb.complaints
        assert not psutil.wait_procs(children, timeout=30)[1]
    assert list((tmp_path / "running").iterdir()) == []


def test_a_request_to_end_is_followed(tmp_path):
    with Verb("serve", *ANY_PORT, home=tmp_path) as verb:
        verb.event("ready")
        assert verb.interrupt(signal.SIGTERM) == 0, str(verb)


def test_a_model_that_does_not_fit_waits_for_the_rest(tmp_path):
    words = ("serve", "--max-memory", "12M", *ANY_PORT)
    with Verb(*words, home=tmp_path / "one") as verb:
        ready = verb.event("ready")
        missing = verb.event("coverage")
        assert not missing["ready"]
        ((first, last),) = missing["missing"]
        assert last == 11
        invite = ready["invite"]
        with Verb("join", ready["door"], home=tmp_path / "two", MANYHANDS_INVITE=invite) as joined:
            assert joined.event("ready")["first"] <= first  # all of it here would be quicker
            while not verb.event("coverage")["ready"]:  # first nobody is missing, then all is ready
                pass
            assert asked(ready["url"], prompt="Once")["choices"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--http-host", "0.0.0.0"], 2, "--api-key"),
        (["--api-key", ""], 2, "key is empty"),
        (["--api-key", "two\nlines"], 2, "API key"),
        (["--allow-origin", "nowhere"], 2, "is no origin"),
        (["--max-memory", "1k"], 3, "not one layer would fit"),
        (["--max-memory", "lots"], 2, "write one as 4G"),
        (["--max-memory", "12M", "--span", "0:11"], 3, "would fit"),
        (["--span", "3:99"], 2, "within 0:11"),
        (["--peers", "99"], 2, "the model has 11 layers"),
        (["--peers", "-1"], 2, "the model has 11 layers"),
        (["--engine", "abacus"], 2, "auto, numpy or torch"),
    ],
)
def test_bad_input_is_said_before_anything_is_loaded(words, code, said, tmp_path):
    shown = done("serve", *ANY_PORT, *words, home=tmp_path)
    assert shown.returncode == code, shown.stderr
    assert said in shown.stderr
    assert "loading" not in shown.stdout
    assert "Traceback" not in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("which", ["--http-port", "--peers-port", "--door-port"])
def test_a_port_that_is_taken_is_named(which, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [*ANY_PORT, which, str(port)]
        shown = done("serve", *words, home=tmp_path)
    assert shown.returncode == 2, shown.stderr
    assert str(port) in shown.stderr
    assert "taken" in shown.stderr
    assert "loading" not in shown.stdout


def test_a_home_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    shown = done("serve", *ANY_PORT, home=blocked / "home")
    assert shown.returncode == 3
    assert "MANYHANDS_HOME" in shown.stderr


def test_nothing_runs_here(tmp_path):
    for verb in ("status", "chat"):
        shown = done(verb, home=tmp_path)
        assert shown.returncode == 2
        assert "start it with" in shown.stderr


def test_a_dead_processs_note_is_no_running_one_whoever_has_its_number_now(tmp_path):
    folder = tmp_path / "running"
    folder.mkdir()
    note = {"url": "http://127.0.0.1:9", "pid": os.getpid(), "since": 1, "key": "secret"}
    file = folder / f"api-{os.getpid()}.json"
    file.write_text(json.dumps(note))
    (folder / "api-7.json").write_text("damaged")
    assert "start it with" in done("status", home=tmp_path).stderr
    assert list(folder.iterdir()) == []
    file.write_text(json.dumps(note))
    with filelock.FileLock(file.with_suffix(".lock")):  # as a process that runs
        shown = done("status", home=tmp_path)
    assert shown.returncode == 4
    assert "does not answer" in shown.stderr


@pytest.mark.parametrize(
    "text", ["{}", "[]", "7", '{"pid": "x"}', '{"url": 7, "since": 1}', "\xff"]
)
def test_a_note_that_is_none_is_nobodys(text, tmp_path):
    folder = tmp_path / "running"
    folder.mkdir()
    (folder / "api-1.json").write_text(text)
    with filelock.FileLock(folder / "api-1.lock"):
        shown = done("status", home=tmp_path)
    assert shown.returncode == 2
    assert "start it with" in shown.stderr


@is_posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_however_it_is_asked_to_end_no_key_stays(name, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = ("serve", "--peers", "2", *ANY_PORT)
    with Verb(*words, home=tmp_path / "home", TMPDIR=str(temporary)) as verb:
        verb.event("ready")
        assert list(temporary.glob("*/peer-*/keys/*.key"))
        assert verb.interrupt(getattr(signal, name)) == 0, str(verb)
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "home" / "running").iterdir()) == []


@is_posix
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_is_heard_while_a_child_that_hangs_loads(times, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = ("serve", "--peers", "2", *ANY_PORT)
    with Verb(*words, home=tmp_path / "home", TMPDIR=str(temporary)) as verb:
        children = frozen_children(verb.process)
        verb.process.send_signal(signal.SIGINT)
        if times == 2:
            time.sleep(0.5)  # both at once would be one signal
            verb.process.send_signal(signal.SIGINT)
        # far below the deadline of loading; two seconds of it are usual, five where one is killed
        ended = verb.process.wait(timeout=60)
        verb.close()
        left = any(event["event"] == "left" for event in verb.events)
        # the second may come when all is done: no exit code is a signal's then either
        assert ended in ({0, 130} if left and times == 2 else {0 if left else 130}), str(verb)
        assert "Traceback" not in verb.complaints
        assert not psutil.wait_procs(children, timeout=30)[1]
    assert list(temporary.iterdir()) == []


def test_a_host_that_means_every_address_needs_one_that_others_dial(tmp_path):
    shown = done("serve", *ANY_PORT, "--host", "0.0.0.0", home=tmp_path)
    assert shown.returncode == 2
    assert "--public-host" in shown.stderr
    words = ("serve", *ANY_PORT, "--host", "0.0.0.0", "--public-host", "127.0.0.1")
    with Verb(*words, home=tmp_path) as verb:
        ready = verb.event("ready")
        assert ready["door"].startswith("127.0.0.1:")
        with Verb("join", ready["door"], "--invite", ready["invite"], home=tmp_path / "b") as other:
            assert other.event("ready")["first"] == 0


async def test_the_next_invite_is_told_before_the_last_one_ends(tmp_path, capsys):
    async with founding(tmp_path, settings=replace(SETTINGS, invite_life_s=1.0)) as swarm:
        asking = _invite_again(Console(as_json=True), swarm, swarm.founder.invite())
        told = await events_of(asking, 2, capsys)
    assert told[0]["invite"] != told[1]["invite"]


async def test_what_is_missing_is_told_each_time_it_changes(tmp_path, capsys):
    async with founding(tmp_path) as swarm:
        layers = len(swarm.opened.model.spec.layers)
        telling = _tell_coverage(Console(as_json=True), swarm, lambda: None)

        async def hold():
            await swarm.hold(Span(0, 1))

        told = await events_of(telling, 2, capsys, hold)
    assert [event["missing"] for event in told] == [[[0, layers]], [[1, layers]]]


async def events_of(work, count, capsys, then=None):
    """What `work` told a program, until it was so many events; `then` is done after the first."""
    told = []
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work)
        while len(told) < count:
            await asyncio.sleep(0.05)
            told += [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            if told and then is not None:
                await then()
                then = None
        working.cancel()
    return told[:count]
