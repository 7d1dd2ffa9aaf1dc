"""Since when nobody uses a machine: from files, commands and systems, or an honest "not here"."""

import os
import sys
from datetime import UTC, datetime

import pytest

from manyhands.errors import BadSetting
from manyhands.machine.idleness import READ_WITHIN_S, find_source, milliseconds_s, nanoseconds_s


def command(program: str) -> str:
    return f'command:{sys.executable} -c "{program}"'


def test_a_file_that_is_touched_tells_of_the_last_input(tmp_path):
    typed = tmp_path / "typed"
    typed.touch()
    os.utime(typed, (1, datetime.now(UTC).timestamp() - 100))
    source = find_source(f"file:{typed}")
    assert 99 < source.idle_s() < 110
    typed.touch()
    assert source.idle_s() < 10
    typed.unlink()
    assert source.idle_s() is None


@pytest.mark.skipif(sys.platform == "win32", reason="paths of Windows are quoted otherwise")
def test_a_command_prints_milliseconds_and_what_else_it_does_is_nothing():
    assert find_source(command("print(61500)")).idle_s() == 61.5
    bad = ("print('long')", "raise SystemExit(1)", f"import time; time.sleep({READ_WITHIN_S + 5})")
    for program in bad:
        with pytest.raises(BadSetting, match=r"cannot be read here \(tried: the command"):
            find_source(command(program))


@pytest.mark.parametrize("asked", ["", "file:", "command:", "xprintidle", "command:'"])
def test_what_names_no_source_is_told_how_to(asked):
    with pytest.raises(BadSetting, match="write file:PATH or command:WORDS"):
        find_source(asked)


def test_a_file_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(BadSetting, match="leave out --when idle, or name with --idle-from"):
        find_source(f"file:{tmp_path / 'nowhere'}")


def test_what_desktops_print_is_read():
    assert milliseconds_s("(uint64 1234,)\n") == 1.234
    assert milliseconds_s("98\n") == 0.098
    assert milliseconds_s("Error: no such name") is None
    assert milliseconds_s(None) is None
    lines = '+-o IOHIDSystem\n    | {\n    |   "HIDIdleTime" = 2500000000\n    | }\n'
    assert nanoseconds_s(lines) == 2.5
    assert nanoseconds_s("") is None
