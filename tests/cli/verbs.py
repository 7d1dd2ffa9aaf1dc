"""`hands` verbs as real processes: started with a home folder of their own, read line by line."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

import psutil

DEADLINE_S = 90.0


class Verb:
    """`hands WORDS --json`; its events are read in a thread. Ended, however the test ends.

    `on` are words in front of the command, as those of a host in `hosts`.
    """

    def __init__(self, *words: str, home: object, on: tuple = (), **environment: str) -> None:
        self.process = subprocess.Popen(
            [*on, sys.executable, "-m", "manyhands.cli.app", *words, "--json"],
            env={**os.environ, "MANYHANDS_HOME": str(home), **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.events: list[dict] = []
        self._new: queue.Queue[dict] = queue.Queue()
        self._complaints: list[str] = []
        self._readers = [
            threading.Thread(target=read, daemon=True)
            for read in (self._read_events, self._read_complaints)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def complaints(self) -> str:
        return "".join(self._complaints)

    def event(self, name: str) -> dict:
        """The next event of this name."""
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s:
            try:
                event = self._new.get(timeout=0.2)
            except queue.Empty:
                assert self.process.poll() is None, f"ended by {self.process.returncode}: {self}"
                continue
            if event["event"] == name:
                return event
        raise AssertionError(f"no {name!r} within {DEADLINE_S} s: {self}")

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=20)
        for reader in self._readers:
            reader.join(20)
        self.process.stdout.close()
        self.process.stderr.close()

    def __enter__(self) -> Verb:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.process.args} said {self.events}, complained {self.complaints}"

    def _read_events(self) -> None:
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            self._new.put(event)

    def _read_complaints(self) -> None:
        self._complaints.extend(self.process.stderr)


def done(
    *words: str, home: object, told: str = "", on: tuple = ()
) -> subprocess.CompletedProcess[str]:
    """A verb that ends by itself."""
    return subprocess.run(
        [*on, sys.executable, "-m", "manyhands.cli.app", *words],
        env={**os.environ, "MANYHANDS_HOME": str(home)},
        input=told, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def frozen_children(process):
    """Its two children, the second one stopped before it can be ready."""
    until_s = time.monotonic() + 60
    while True:
        assert time.monotonic() < until_s
        children = psutil.Process(process.pid).children()
        # not before it is a program of its own: its parent waits for that
        if len([child for child in children if "join" in _words_of(child)]) == 2:
            children[1].suspend()
            return children
        time.sleep(0.01)


def _words_of(process) -> list[str]:
    """Its command line; none of one that has ended, as what looks for libraries does soon."""
    with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is that, too
        return process.cmdline()
    return []
