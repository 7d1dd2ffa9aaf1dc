"""`hands pull`: a model's folder in another weight format, with a bar for a person who waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from manyhands.cli.console import Console
from manyhands.cli.words import as_size
from manyhands.domain.weight_format import STORED_FORMATS, StoredFormat
from manyhands.engine.compiled import kernels_serve
from manyhands.errors import BadSetting, CheckpointError, NotServed, UserError
from manyhands.node.conversion import convert
from manyhands.node.thin import Thin, ranks_of, thin_matrices_of
from manyhands.store.builtin import folder_of
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What the command line says."""

    model: str
    form: str
    target: str
    budget: float | None = None
    calibration: str | None = None


def pull(console: Console, options: PullOptions) -> None:
    """Convert a folder into a new one, whole or not at all; then try the kernels it will need.

    Raises BadSetting for an unknown format, CheckpointError, NotServed, ResourceError.
    """
    form = _known(options.form)
    _check_budget(options, form)
    source = Checkpoint.open(folder_of(options.model))
    source.check()
    target = Path(options.target).expanduser()
    before = source.stored_bytes(source.spec.span)
    what = f"{source.folder.resolve().name} to {form}"
    facts: dict[str, Any] = {"format": form, "folder": str(target), "before_bytes": before}
    console.event("converting", **facts)
    if target.exists():  # `convert` says so too, but a long search may come before it
        raise CheckpointError(f"{target} is there already; name another folder, or remove it")
    thin: dict[str, Thin] = {}
    if options.budget is not None and form != "bf16":
        tokens = _tokens(source, options.calibration or "")
        with _bar(console, f"low ranks of {source.folder.resolve().name}", before) as told:
            thin = thin_matrices_of(source, form, options.budget, tokens, told)
    with _bar(console, what, before) as told:
        convert(source, form, target, told, thin)
    made = Checkpoint.open(target)
    after = made.stored_bytes(made.spec.span)
    console.event("converted", **facts, after_bytes=after, low_rank=ranks_of(thin))
    if options.budget is not None:
        console.say(_told_of(thin))
    verb = "run" if made.spec.keeps_memory and made.spec.answers == "lm" else "serve"
    console.say(
        f"{target}: {as_size(after)} in place of {as_size(before)}. Run it: hands {verb} {target}"
    )
    if form == "bf16":
        return
    if find_spec("numba") is None:
        console.say("Numba would make it quick: pip install -e '.[fast]' in your clone.")
        return
    console.say("Trying the kernels for it on this processor, the first time some seconds …")
    kernels_serve()


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """What is called with the bytes that were read since the last call."""
    if not console.is_terminal:
        console.say(f"{what} ({as_size(total)}) …")
        yield lambda _: None
        return
    columns = TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console.rich, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda size: progress.advance(bar, size)


def _check_budget(options: PullOptions, form: StoredFormat) -> None:
    if (options.budget is None) != (options.calibration is None):
        raise BadSetting("--low-rank-budget and --calibration belong together; give both, or none")
    if options.budget is not None and (form == "bf16" or not 0 < options.budget < 1):
        raise BadSetting(
            f"--low-rank-budget is {options.budget:g} with --format {form}; it must be between 0 "
            "and 1, as 0.05 for 5 % of a matrix's output, with int8 or int4"
        )


def _tokens(source: Checkpoint, file: str) -> list[int]:
    """The calibration text as the model reads it."""
    if source.spec.embed.patches is not None:
        raise NotServed("low rank is found by texts, and this model takes images; leave it out")
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--calibration {file} cannot be read: {error}") from error
    return Tokenizer.open(source.folder).encode(text)


def _told_of(thin: Mapping[str, Thin]) -> str:
    if not thin:
        return "No matrix has so low a rank that it would take fewer bytes within the budget."
    shown = ", ".join(f"{name} (rank {one.rank}, {one.error:.1%})" for name, one in thin.items())
    return f"As two thin matrices: {shown}."


def _known(name: str) -> StoredFormat:
    for form in STORED_FORMATS:
        if form == name:
            return form
    raise BadSetting(f"--format is {name!r}; it must be {', '.join(STORED_FORMATS)}")
