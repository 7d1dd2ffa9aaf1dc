"""Keys pressed in a real terminal reach the program one by one, and the terminal is given back."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest

pty = pytest.importorskip("pty", reason="terminals of this kind are POSIX's")
import termios  # noqa: E402  # only where there is a pty

PROGRAM = """
import asyncio, json, sys
from manyhands.cli.keys import key_presses

async def main():
    pressed = asyncio.Queue()
    async with key_presses(pressed.put_nowait) as is_read:
        print(json.dumps({"ready": is_read}), flush=True)
        while is_read and (key := await pressed.get()) != "q":
            print(json.dumps({"key": key}), flush=True)
    print(json.dumps({"left": True}), flush=True)

asyncio.run(main())
"""
DEADLINE_S = 60.0


class Viewer:
    """A program whose standard input is a terminal; its output is a pipe."""

    def __init__(self, program: str) -> None:
        self.ours, self.theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=self.theirs, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
        )  # fmt: skip

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def told(self) -> dict:
        """The next line it says."""
        if not select.select([self.process.stdout], [], [], DEADLINE_S)[0]:
            raise AssertionError("it said nothing")
        return json.loads(self.process.stdout.readline())

    def mode(self) -> int:
        return termios.tcgetattr(self.theirs)[3] & (termios.ICANON | termios.ECHO)


@contextlib.contextmanager
def viewer(program: str = PROGRAM):
    made = Viewer(program)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait(20)
        made.process.stdout.close()
        for descriptor in (made.ours, made.theirs):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def test_every_key_is_told_at_once_even_several_in_a_burst_and_the_terminal_is_restored():
    with viewer() as one:
        before = one.mode()
        assert one.told() == {"ready": True}
        assert one.mode() == 0  # neither lines nor echo
        one.press("2")
        assert one.told() == {"key": "2"}
        one.press("abc")
        assert [one.told() for _ in range(3)] == [{"key": "a"}, {"key": "b"}, {"key": "c"}]
        one.press("é")
        assert one.told() == {"key": "é"}
        one.press("q")
        assert one.told() == {"left": True}
        assert one.process.wait(DEADLINE_S) == 0
        assert one.mode() == before != 0


def test_a_key_whose_bytes_come_in_two_parts_is_one_key():
    with viewer() as one:
        assert one.told() == {"ready": True}
        os.write(one.ours, "é".encode()[:1])
        time.sleep(0.1)  # so that the first part is read alone; joined, it tests less
        os.write(one.ours, "é".encode()[1:])
        assert one.told() == {"key": "é"}


COUNTING = """
import asyncio, json, selectors, signal
from manyhands.cli.keys import key_presses

class Counting(selectors.DefaultSelector):
    turns = 0

    def select(self, timeout=None):
        self.turns += 1
        return super().select(timeout)

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: print(json.dumps({"turns": counting.turns}), flush=True)
    )
    async with key_presses(lambda key: None) as is_read:
        print(json.dumps({"ready": is_read}), flush=True)
        await asyncio.Event().wait()

counting = Counting()
with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(counting)) as runner:
    runner.run(main())
"""


def test_a_terminal_that_went_away_does_not_keep_the_program_busy():
    with viewer(COUNTING) as one:
        assert one.told() == {"ready": True}
        os.close(one.theirs)
        os.close(one.ours)
        time.sleep(0.5)
        turns = []
        for _ in range(2):
            one.process.send_signal(signal.SIGUSR1)
            turns.append(one.told()["turns"])
            time.sleep(1.0)
        # a loop that is told again and again of a terminal that ended turns thousands of times
        assert turns[1] - turns[0] < 10


def test_without_a_terminal_nobody_presses_anything():
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="abc", capture_output=True, text=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert [json.loads(line) for line in told.stdout.splitlines()] == [
        {"ready": False},
        {"left": True},
    ]
