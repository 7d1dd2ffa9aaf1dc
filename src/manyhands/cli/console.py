"""How the command line speaks: words for people on a terminal, JSON lines for programs.

One place for errors and exit codes: 0 done, 1 failed, 2 your input, 3 memory or disk, 4 network or
another peer, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, NoReturn

import rich.console

from manyhands.cli.wrapping import Wrapping
from manyhands.errors import ManyhandsError
from manyhands.launch.leftovers import clear_all

INTERRUPTED = 130

ENDING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP
"""Asked to end by other means than Ctrl-C: by the system, or by a terminal that is closed."""

_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor or turns its text around: others' texts may hold it."""


class AskedToEnd(KeyboardInterrupt):
    """Unlike Ctrl-C, which may stop one answer only, this ends the program."""


class Console:
    """Where a verb prints. With `as_json` each event is one JSON object a line, nothing else.

    Styles are rich's; a pipe gets plain text.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.rich = rich.console.Console(highlight=False, markup=False, emoji=False)
        self._wrapping = Wrapping(self.rich.width)
        self._style: str | None = None

    @property
    def is_terminal(self) -> bool:
        """True when a person looks on."""
        return self.rich.is_terminal and not self.as_json

    def say(self, text: str = "", style: str | None = None, *, is_copied: bool = False) -> None:
        """A line for a person; nothing with --json. What is to be copied is never broken."""
        if self.as_json:
            return
        self._finish()
        if text.strip() and self._wrapping.column:  # a line of its own, also amid streamed text
            self.rich.print()
        self._wrapping.column = 0
        self.rich.print(as_shown(text), style=style, soft_wrap=is_copied or not self.is_terminal)

    def write(self, text: str, style: str | None = None) -> None:
        """A piece of text without a line's end, for a person."""
        if self.as_json:
            return
        if style != self._style:
            self._finish()
            self._style = style
        shown = as_shown(text)
        self._print(self._wrapping.feed(shown) if self.is_terminal else shown)

    def _finish(self) -> None:
        self._print(self._wrapping.finish())

    def _print(self, text: str) -> None:
        self.rich.print(text, style=self._style, end="", soft_wrap=True)
        self.rich.file.flush()

    def event(self, event: str, **facts: Any) -> None:
        """A line for a program; nothing without --json."""
        if self.as_json:
            print(json.dumps({"event": event, **facts}), flush=True)  # noqa: T201


def as_shown(text: str) -> str:
    """`text` without what a terminal would obey; lines and tabs stay."""
    return _UNSHOWN.sub("\ufffd", text)


def fail(error: ManyhandsError, *, as_json: bool) -> NoReturn:
    """Say what went wrong and leave with its exit code."""
    if as_json:
        told = {"event": "error", "code": error.code, "message": str(error)}
        print(json.dumps(told), flush=True)  # noqa: T201
    print(as_shown(f"hands: {error}"), file=sys.stderr, flush=True)  # noqa: T201
    raise SystemExit(error.exit_code)


def run_verb(work: Coroutine[Any, Any, None], *, as_json: bool, verbose: bool) -> None:
    """Run a verb on an event loop; errors as `run_plain`."""
    run_plain(lambda: asyncio.run(work), as_json=as_json, verbose=verbose)


def run_plain(work: Callable[[], None], *, as_json: bool, verbose: bool) -> None:
    """Run a verb to its end; errors of ours become a line and an exit code, bugs a traceback."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _any_text()
    failure: ManyhandsError | None = None
    code = 0
    try:
        with _ended_by_signals():
            work()
    except* ManyhandsError as group:
        failure = first_of(group)
    except* KeyboardInterrupt:
        code = INTERRUPTED
    except* BrokenPipeError:
        # whoever read us has gone; Python would complain once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    finally:
        clear_all()  # a second Ctrl-C has cut short what cleans up
    # not within except*: early versions of Python 3.11 make a group of what is raised there
    if failure is not None and not code:
        fail(failure, as_json=as_json)
    if code:
        raise SystemExit(code)


def _any_text() -> None:
    """Let no character of a story be one that this system's pipes cannot carry."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What Ctrl-C does, the other requests to end do as well."""

    def end(_number: int, frame: FrameType | None) -> None:
        interrupt = signal.getsignal(signal.SIGINT)  # an event loop has one of its own
        if callable(interrupt) and interrupt is not signal.default_int_handler:
            interrupt(signal.SIGINT, frame)
        else:
            raise AskedToEnd

    with _installed(end):
        yield


@contextlib.contextmanager
def _installed(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Those that whoever started us wants ignored (nohup) stay so."""
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, handler) for number in heard]
    try:
        yield
    finally:
        for number, former in zip(heard, before, strict=True):
            signal.signal(number, former)


def first_of(group: BaseExceptionGroup[ManyhandsError]) -> ManyhandsError:
    """The first error inside nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, ManyhandsError):
        raise error
    return error


@contextlib.asynccontextmanager
async def until_signal() -> AsyncIterator[asyncio.Event]:
    """An event that Ctrl-C or a request to end sets; a second one ends the process at once."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if asked.is_set():
            try:
                clear_all()
            finally:
                os._exit(INTERRUPTED)
        asked.set()

    former = _install(loop, ask)
    try:
        yield asked
    finally:
        former()


def _install(loop: asyncio.AbstractEventLoop, ask: Callable[[], None]) -> Callable[[], None]:
    numbers = [
        number
        for number in (signal.SIGINT, *ENDING)
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [signal.getsignal(number) for number in numbers]
    try:
        for number in numbers:
            loop.add_signal_handler(number, ask)
        remove: Callable[[int], object] = loop.remove_signal_handler
    except NotImplementedError:  # Windows' loop has none
        for number in numbers:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(ask))
        remove = int

    def restore() -> None:
        for number, handler in zip(numbers, before, strict=True):
            remove(number)
            signal.signal(number, handler)

    return restore


async def end_with_parent(asked: asyncio.Event) -> None:
    """Set `asked` once standard input is closed, as it is when the parent has ended."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 1024):
                pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(asked.set)

    import threading

    threading.Thread(target=wait, name="parent", daemon=True).start()
    await asked.wait()
