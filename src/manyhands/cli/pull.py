"""`hands pull`: a model's folder in another weight format, with a bar for a person who waits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from manyhands.cli.console import Console
from manyhands.cli.words import as_size
from manyhands.domain.weight_format import STORED_FORMATS, StoredFormat
from manyhands.engine.compiled import kernels_serve
from manyhands.errors import BadSetting
from manyhands.node.conversion import convert
from manyhands.store.builtin import folder_of
from manyhands.store.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What the command line says."""

    model: str
    form: str
    target: str


def pull(console: Console, options: PullOptions) -> None:
    """Convert a folder into a new one, whole or not at all; then try the kernels it will need.

    Raises BadSetting for an unknown format, CheckpointError, NotServed, ResourceError.
    """
    form = _known(options.form)
    source = Checkpoint.open(folder_of(options.model))
    source.check()
    target = Path(options.target).expanduser()
    before = source.stored_bytes(source.spec.span)
    what = f"{source.folder.resolve().name} to {form}"
    facts: dict[str, Any] = {"format": form, "folder": str(target), "before_bytes": before}
    console.event("converting", **facts)
    if console.is_terminal:
        columns = TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console.rich, transient=True) as progress:
            bar = progress.add_task(what, total=before)
            convert(source, form, target, lambda size: progress.advance(bar, size))
    else:
        console.say(f"{what} ({as_size(before)}) …")
        convert(source, form, target, lambda _: None)
    made = Checkpoint.open(target)
    after = made.stored_bytes(made.spec.span)
    console.event("converted", **facts, after_bytes=after)
    console.say(
        f"{target}: {as_size(after)} in place of {as_size(before)}. Run it: hands run {target}"
    )
    if form != "bf16" and not kernels_serve():
        console.say("Numba would make it quick: pip install -e '.[fast]' in your clone.")


def _known(name: str) -> StoredFormat:
    for form in STORED_FORMATS:
        if form == name:
            return form
    raise BadSetting(f"--format is {name!r}; it must be {', '.join(STORED_FORMATS)}")
