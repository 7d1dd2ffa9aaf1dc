"""`hands status --watch`: the swarm on one screen that renews itself, until Ctrl-C.

Where no person looks on, a JSON object a line for each change.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from rich.console import Group
from rich.live import Live
from rich.text import Text

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.swarm_screen import Json, Shown, screen
from manyhands.errors import PeerLost, UserError

EVERY_S = 1.0
OVER_LOOKS = 4
"""Tokens a second are counted over so many looks."""


def watch(console: Console, find: Callable[[], Api]) -> None:
    """Show until Ctrl-C, or another request to end.

    `find` says where to look, anew when nothing answers there any more. Raises what it raises at
    first, and what the first look at the swarm raises.
    """
    try:
        if console.is_terminal:
            _on_screen(console, looks(find))
        else:
            _as_lines(Console(as_json=True), looks(find))
    except KeyboardInterrupt:
        return


def looks(
    find: Callable[[], Api],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Shown]:
    """A look each second, for ever. One that fails, but the first, is the last one with its why."""
    api = find()
    spoken: deque[tuple[float, int]] = deque(maxlen=OVER_LOOKS)
    shown = _look(api, spoken, clock)
    while True:
        yield shown
        sleep(EVERY_S)
        try:
            if shown.problem is not None:
                api = find()  # started again it may listen elsewhere
            shown = _look(api, spoken, clock)
        except (PeerLost, UserError) as error:
            spoken.clear()
            shown = replace(shown, tok_s=None, problem=f"{error} Looking for it …")


def _look(api: Api, spoken: deque[tuple[float, int]], clock: Callable[[], float]) -> Shown:
    swarm = api.get("/swarm")
    try:
        shown = Shown(api.url, swarm)
        screen(shown)  # of our making, or it raises
        tokens = swarm.get("tokens")
        if not isinstance(tokens, int):
            return shown
        if spoken and tokens < spoken[-1][1]:  # another process than before
            spoken.clear()
        spoken.append((clock(), tokens))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise api.no_swarm() from None
    (first_s, first), (last_s, last) = spoken[0], spoken[-1]
    return replace(shown, tok_s=(last - first) / (last_s - first_s) if last_s > first_s else 0.0)


def _on_screen(console: Console, seen: Iterator[Shown]) -> None:
    now = next(seen)

    def drawn() -> Group:  # asked for each second: the window may have another size by then
        size = console.rich.size
        note = "" if now.problem else "Ctrl-C leaves; the swarm goes on"
        lines = screen(now, size.width, size.height - 2)
        return Group(*lines, Text(), Text(note[: size.width], "dim"))

    with Live(
        console=console.rich, get_renderable=drawn, refresh_per_second=2, vertical_overflow="crop"
    ) as live:
        for shown in seen:
            now = shown
            live.refresh()


def _as_lines(console: Console, seen: Iterator[Shown]) -> None:
    told: tuple[Json, str | None] | None = None
    for now in seen:
        if told == (now.swarm, now.problem):
            continue
        told = now.swarm, now.problem
        if now.problem is not None:
            console.event("lost", message=now.problem)
        else:
            console.event("status", **now.swarm)
