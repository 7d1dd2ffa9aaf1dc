"""Reads a small JSON object or text from a file, with a cap on its size.

Knows nothing of what is in it, but tells a git-lfs pointer that stands in for a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manyhands.errors import CheckpointError

POINTER = b"version https://git-lfs"
"""How the note begins that git-lfs leaves in place of a large file until it is pulled."""


def refuse_pointer(file: Path, start: bytes) -> None:
    """Raise CheckpointError when `start`, the first bytes of `file`, begin a git-lfs pointer."""
    if start.startswith(POINTER):
        raise CheckpointError(
            f"{file} is a git-lfs pointer, not the file itself; run `git lfs pull` in "
            f"{file.parent}, or download the file again"
        )


def read_text(file: Path, most_bytes: int) -> str:
    """The file as UTF-8.

    Raises CheckpointError when it cannot be read, is over `most_bytes` or is a git-lfs pointer.
    """
    try:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing; download the model again")
        with file.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    refuse_pointer(file, data)
    if len(data) > most_bytes:
        raise CheckpointError(f"{file} is over {most_bytes} bytes, more than such a file needs")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file} is no UTF-8 text; download it again") from error


def read_object(file: Path, most_bytes: int = 16 * 2**20) -> dict[str, Any]:
    """The JSON object in `file`. Raises CheckpointError: missing, too large, no JSON object."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON number")

    try:
        value = json.loads(read_text(file, most_bytes), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} holds no JSON object; download it again")
    return value
