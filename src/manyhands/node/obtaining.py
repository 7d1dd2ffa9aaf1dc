"""A model that is not on this disk becomes one that is: what it is first, each span when wanted.

Joins the fetcher with the folder it writes to. Knows nothing of how a share is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from manyhands.domain.ids import ModelId
from manyhands.domain.span import Span
from manyhands.errors import CheckpointError
from manyhands.node.fetcher import Fetcher
from manyhands.node.opened import Opened
from manyhands.store.fetched import FetchedFolder

NAME_DIGITS = 32
"""Of a model's id, in the name of its folder."""

Told = Callable[[int], None]


def folder_for(models: Path, model: ModelId) -> Path:
    """Where a model is fetched to, below the folder of all fetched models."""
    return models / model[:NAME_DIGITS]


async def fetched_folder(
    fetcher: Fetcher, model: ModelId, models: Path, told: Told = lambda _: None
) -> Path:
    """The folder of a model, with its config, tokenizer and headers at least.

    Nobody is asked when they are here. Raises what Fetcher raises, and CheckpointError for a folder
    of another model.
    """
    folder = folder_for(models, model)
    here = await fetcher.disk.run(lambda: FetchedFolder.open(folder), 0.0)
    if here is None:
        told_one = await fetcher.manifest(model)
        manifest, origin = told_one.manifest, told_one.origin
        here = await fetcher.disk.run(lambda: FetchedFolder.create(folder, manifest, origin), 0.0)
    if here.model != model:
        raise CheckpointError(f"{folder} was fetched for another model; remove it")
    await fetcher.fetch(here, here.table.heads(), told)
    return folder


def fetching(opened: Opened, fetcher: Fetcher, told: Told = lambda _: None) -> Opened:
    """The same model, fetching spans that are not on this disk when they are to be held.

    `told` hears the bytes of each piece that comes. A folder that is here whole stays as it is.
    """
    checkpoint = opened.checkpoint
    folder = checkpoint.fetched
    if folder is None:
        return opened

    async def fetch(span: Span) -> None:
        await fetcher.fetch(folder, folder.table.of_ranges(checkpoint.ranges(span)), told)

    return replace(opened, model=replace(opened.model, fetch=fetch))
