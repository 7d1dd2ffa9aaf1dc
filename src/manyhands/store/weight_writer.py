"""Writes a folder of weights that is whole or not there: beside its place first, then renamed.

Weights are safetensors files, a layer each; what is written is forced to the disk before the folder
gets its name. Knows nothing of what tensors mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from manyhands.domain.tensor_frame import DTYPE_BYTES
from manyhands.errors import CheckpointError, ResourceError
from manyhands.store.json_file import read_object
from manyhands.store.weight_files import UNFINISHED

_BEGINS = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor that will be written: name, dtype and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes it will take."""
        count = DTYPE_BYTES[self.dtype]
        for side in self.shape:
            count *= side
        return count


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `target` when the block ends well, else is removed.

    Raises CheckpointError when something is at `target`, ResourceError when it cannot be written.
    """
    if target.exists():
        raise CheckpointError(f"{target} is there already; name another folder, or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        draft = Path(tempfile.mkdtemp(prefix=f"{_BEGINS}{target.name}-", dir=target.parent))
    except OSError as error:
        raise ResourceError(f"{target} cannot be made: {error.strerror}") from error
    try:
        mark = draft / UNFINISHED
        mark.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        yield draft
        mark.unlink()
        for file in (*draft.rglob("*"), draft):
            _force(file)
        draft.chmod(0o755)  # mkdtemp made it private
        draft.rename(target)
        _force(target.parent)
    except OSError as error:
        raise ResourceError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_weights(
    folder: Path, plan: Mapping[str, Sequence[Planned]], tensors: Iterable[Iterable[memoryview]]
) -> None:
    """Write the planned tensors of each file, each the bytes that `tensors` gives for it, in order.

    `tensors` is asked for one tensor at a time, and that for one piece of its bytes at a time.
    Raises ResourceError when the disk is too small.
    """
    free = shutil.disk_usage(folder).free
    due = sum(tensor.size_bytes for some in plan.values() for tensor in some)
    if due > free:
        raise ResourceError(
            f"{folder.parent} has {free / 1e6:,.0f} MB free, the weights take {due / 1e6:,.0f} MB; "
            "free some, or name another disk"
        )
    given = iter(tensors)
    for name, some in plan.items():
        with (folder / name).open("wb") as stream:
            stream.write(_header(some))
            for planned in some:
                pieces = next(given)
                size = sum(stream.write(piece) for piece in pieces)
                if size != planned.size_bytes:
                    raise CheckpointError(
                        f"tensor {planned.name!r} came with {size} bytes, not {planned.size_bytes}"
                    )


def _header(tensors: Sequence[Planned]) -> bytes:
    """With spaces behind it, so that the data begins where vectors may be loaded."""
    table: dict[str, Any] = {"__metadata__": {"format": "manyhands"}}
    first = 0
    for tensor in tensors:
        last = first + tensor.size_bytes
        table[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [first, last],
        }
        first = last
    text = json.dumps(table, separators=(",", ":")).encode("utf-8")
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text


def _force(file: Path) -> None:
    """Onto the disk itself, where the system can be asked to."""
    with contextlib.suppress(OSError):  # a folder cannot be opened on Windows
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """What processes that were killed left of this very target."""
    for folder in target.parent.glob(f"{_BEGINS}{target.name}-*"):
        with contextlib.suppress(CheckpointError):
            pid = read_object(folder / UNFINISHED).get("pid")
            if isinstance(pid, int) and not psutil.pid_exists(pid):
                shutil.rmtree(folder, ignore_errors=True)
