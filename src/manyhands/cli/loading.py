"""Layers being loaded, with a bar for a person who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from manyhands.cli.console import Console
from manyhands.cli.words import as_size
from manyhands.domain.span import Span
from manyhands.node.opened import Opened

LOOK_EVERY_S = 0.1


@dataclass(slots=True)
class Fetch:
    """What must come from others first, and what of it has come."""

    due_bytes: int = 0
    came_bytes: int = 0

    def told(self, size_bytes: int) -> None:
        """A piece came."""
        self.came_bytes += size_bytes


async def shown_loading(
    console: Console,
    opened: Opened,
    span: Span,
    loading: Awaitable[None],
    fetch: Fetch | None = None,
) -> None:
    """Await `loading` of a span. On a terminal a bar shows how far its files have been read.

    Where some of it must be fetched first, the bar is for both.
    """
    checkpoint = opened.checkpoint
    total, before = checkpoint.stored_bytes(span), checkpoint.bytes_read
    fetch = fetch or Fetch()
    verb = "fetching and loading" if fetch.due_bytes else "loading"
    what = f"{verb} layers {span.first}:{span.last} of {opened.name}"
    console.event(
        "loading",
        model=opened.name,
        first=span.first,
        last=span.last,
        bytes=total,
        fetch_bytes=fetch.due_bytes,
    )
    if not console.is_terminal:
        to_come = f", {as_size(fetch.due_bytes)} to come from others" if fetch.due_bytes else ""
        console.say(f"{what} ({as_size(total)}{to_come}) …")
        await loading
        return
    columns = TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console.rich, transient=True) as progress:
        bar = progress.add_task(what, total=total + fetch.due_bytes)

        async def look() -> None:
            while True:
                progress.update(bar, completed=checkpoint.bytes_read - before + fetch.came_bytes)
                await asyncio.sleep(LOOK_EVERY_S)

        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(look())
            try:
                await loading
            finally:
                looking.cancel()
