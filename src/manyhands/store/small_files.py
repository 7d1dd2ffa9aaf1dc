"""The files beside a model's weights that belong to it: config, tokenizer, how texts are pooled.

Knows nothing of what is in them.
"""

from __future__ import annotations

from pathlib import Path

from manyhands.store.sentence_form import files_below

MOST_BYTES = 64 * 2**20
"""Larger files that are no weights are left where they are."""

_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".gguf", ".index.json", ".h5", ".msgpack")


def small_files(folder: Path) -> tuple[str, ...]:
    """Their names relative to `folder`, with forward slashes, in order."""
    beside = (
        file.name
        for file in sorted(folder.iterdir())
        if file.is_file() and not file.name.endswith(_WEIGHTS) and file.stat().st_size <= MOST_BYTES
    )
    return (*beside, *(below.as_posix() for below in files_below(folder)))
