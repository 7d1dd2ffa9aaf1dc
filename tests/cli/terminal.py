"""A command in a real terminal (a pty): what it shows, and keys pressed while it runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`hands WORDS` with a terminal of 100 columns; everything it wrote is in `shown`."""

    def __init__(self, *words: str, home: object = None, on: tuple = (), **more: str) -> None:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm-256color", **more}
        if home is not None:
            environment["MANYHANDS_HOME"] = str(home)
        self.process = subprocess.Popen(
            [*on, sys.executable, "-m", "manyhands.cli.app", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(theirs)
        self._ours = ours
        self.raw = ""

    @property
    def shown(self) -> str:
        """Without colours."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, text: str, deadline_s: float = 90.0) -> None:
        """Read until `text` was shown."""
        self._read(lambda: text in self.shown, deadline_s)
        assert text in self.shown, f"not shown: {text}\n{self.shown}"

    def wait(self, seconds: float) -> None:
        """Read for so long."""
        self._read(lambda: False, seconds)

    def end(self, deadline_s: float = 90.0) -> int:
        """Read to the end; the exit code."""
        self._read(lambda: False, deadline_s)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=20)
        self.hang_up()

    def hang_up(self) -> None:
        """As a window that is closed, or a line that breaks."""
        if self._ours is not None:
            os.close(self._ours)
        self._ours = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, is_enough, deadline_s: float) -> None:
        until_s = time.monotonic() + deadline_s
        while not is_enough() and time.monotonic() < until_s:
            if not select.select([self._ours], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                return
            if not data:
                return
            self.raw += data.decode("utf-8", "replace")


def _own_terminal() -> None:
    """Make standard input the terminal of this session, so that Ctrl-C typed there is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
