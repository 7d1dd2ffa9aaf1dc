"""Layers being loaded, with a bar for a person who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from manyhands.cli.console import Console
from manyhands.cli.words import as_size
from manyhands.domain.span import Span
from manyhands.node.opened import Opened

LOOK_EVERY_S = 0.1


async def shown_loading(
    console: Console, opened: Opened, span: Span, loading: Awaitable[None]
) -> None:
    """Await `loading` of a span. On a terminal a bar shows how far its files have been read."""
    checkpoint = opened.checkpoint
    total, before = checkpoint.stored_bytes(span), checkpoint.bytes_read
    what = f"loading layers {span.first}:{span.last} of {opened.name}"
    console.event("loading", model=opened.name, first=span.first, last=span.last, bytes=total)
    if not console.is_terminal:
        console.say(f"{what} ({as_size(total)}) …")
        await loading
        return
    columns = TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console.rich, transient=True) as progress:
        bar = progress.add_task(what, total=total)

        async def look() -> None:
            while True:
                progress.update(bar, completed=checkpoint.bytes_read - before)
                await asyncio.sleep(LOOK_EVERY_S)

        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(look())
            try:
                await loading
            finally:
                looking.cancel()
