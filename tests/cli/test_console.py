"""How verbs speak and end: lines or JSON, one line an error, its exit code, and signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from manyhands.cli.console import Console, end_with_parent, first_of, run_plain, until_signal
from manyhands.errors import (
    CheckpointError,
    FrameError,
    ManyhandsError,
    PeerLost,
    ResourceError,
    UserError,
)

DEADLINE_S = 60.0
is_posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def raising(error):
    def work():
        raise error

    return work


def ended(work, *, as_json=False) -> int:
    with pytest.raises(SystemExit) as told:
        run_plain(work, as_json=as_json, verbose=False)
    return told.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ManyhandsError("x"), 1),
        (UserError("x"), 2),
        (CheckpointError("x"), 2),
        (ResourceError("x"), 3),
        (PeerLost("x"), 4),
        (FrameError("x"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_end_with_the_exit_code_of_their_kind_however_deep(error, code):
    assert ended(raising(error)) == code
    group = BaseExceptionGroup("", [BaseExceptionGroup("", [error])])
    assert ended(raising(group)) == code


def test_an_error_is_one_line_for_people_and_one_object_for_programs(capsys):
    error = ExceptionGroup("", [PeerLost("it went away; dial again")])
    assert ended(raising(error), as_json=True) == 4
    said = capsys.readouterr()
    assert said.err == "hands: it went away; dial again\n"
    assert json.loads(said.out) == {
        "event": "error",
        "code": "peer_lost",
        "message": "it went away; dial again",
    }
    assert ended(raising(error)) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "hands: it went away; dial again\n"


def test_a_bug_stays_a_bug():
    with pytest.raises(ZeroDivisionError):
        run_plain(raising(ZeroDivisionError()), as_json=False, verbose=False)
    with pytest.raises(ExceptionGroup) as told:
        run_plain(raising(ExceptionGroup("", [ZeroDivisionError()])), as_json=False, verbose=False)
    assert told.group_contains(ZeroDivisionError)


def test_the_first_error_of_a_group_is_told():
    group = ExceptionGroup("", [ExceptionGroup("", [UserError("a")]), PeerLost("b")])
    assert str(first_of(group)) == "a"


def test_a_person_reads_lines_and_a_program_reads_objects(capsys):
    person, program = Console(as_json=False), Console(as_json=True)
    for console in (person, program):
        console.say("[bold]10:20[/bold] :smile: 3")
        console.write("piece")
        console.event("ready", layers=3)
    assert capsys.readouterr().out == (
        '[bold]10:20[/bold] :smile: 3\npiece{"event": "ready", "layers": 3}\n'
    )
    assert not person.is_terminal
    assert not program.is_terminal


def python(code: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


WAITING = """
import asyncio
from manyhands.cli.console import run_verb, until_signal

async def main():
    async with until_signal() as asked:
        print("ready", flush=True)
        await asked.wait()
        print("asked", flush=True)
        await asyncio.sleep({after})

run_verb(main(), as_json=False, verbose=False)
print("done", flush=True)
"""


@is_posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_asks_to_end_in_order(name):
    with python(WAITING.format(after=0)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.communicate(timeout=DEADLINE_S) == ("asked\ndone\n", "")
        assert process.returncode == 0


@is_posix
def test_a_second_ctrl_c_ends_it_at_once():
    with python(WAITING.format(after=3600)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130


@is_posix
async def test_afterwards_ctrl_c_is_what_it_was():
    before = signal.getsignal(signal.SIGTERM)
    async with until_signal() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        await asked.wait()
    assert signal.getsignal(signal.SIGTERM) == before


CHATTY = """
from manyhands.cli.console import Console, run_plain

def work():
    for _ in range(100_000):
        Console(as_json={as_json}).say("line")
        Console(as_json={as_json}).event("line")

run_plain(work, as_json={as_json}, verbose=False)
"""


@is_posix
@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_that_went_away_ends_it_without_a_word(as_json):
    with python(CHATTY.format(as_json=as_json)) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE_S) == 1


PARENT = """
import asyncio
from manyhands.cli.console import end_with_parent

asyncio.run(end_with_parent(asyncio.Event()))
"""


def test_a_child_ends_with_its_parents_pipe_and_not_before():
    with python(PARENT, stdin=subprocess.PIPE) as process:
        process.stdin.write("words are no end\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0


async def test_who_was_asked_otherwise_does_not_wait_for_the_parent():
    asked = asyncio.Event()
    asked.set()
    await end_with_parent(asked)


PLAIN = """
import sys, time
from manyhands.cli.console import run_plain
from manyhands.launch.leftovers import cleared

def work():
    with cleared(lambda: print("cleared", flush=True)):
        print("ready", flush=True)
        time.sleep(600)

run_plain(work, as_json=False, verbose=False)
"""


@is_posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_without_a_loop_too_it_ends_in_order(name):
    with python(PLAIN) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.communicate(timeout=DEADLINE_S) == ("cleared\n", "")
        assert process.returncode == 130


@is_posix
def test_what_whoever_started_us_wants_ignored_stays_so():
    ignoring = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with python(ignoring + WAITING.format(after=0)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=DEADLINE_S) == ("asked\ndone\n", "")


def test_others_texts_cannot_move_the_cursor(capsys):
    console = Console(as_json=False)
    console.say("a\x1b[2Jbc\nd\r\u202e\ud800")
    console.write("\x07e\x9bé日🙂")
    shown = capsys.readouterr().out
    assert shown == "a\ufffd[2Jbc\nd\ufffd\ufffd\ufffd\n\ufffde\ufffdé日🙂"
