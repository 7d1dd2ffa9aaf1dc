"""The models that come with this package, and what a person may call a model."""

from __future__ import annotations

from pathlib import Path

from manyhands.errors import CheckpointError
from manyhands.store.weight_files import model_folder

STORYTELLER = "storyteller"
"""A small model of our own that tells stories: enough to see the whole work, no more."""


def storyteller_folder() -> Path:
    """Where the storyteller's files are in this installation."""
    return Path(__file__).parent.parent / STORYTELLER


def folder_of(name: str | Path) -> Path:
    """The folder of a model that a person named: `storyteller`, or a folder's path.

    Raises CheckpointError for what is neither, saying what to try.
    """
    if str(name) == STORYTELLER and not Path(name).is_dir():
        return storyteller_folder()
    try:
        return model_folder(name)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; or `{STORYTELLER}`, the small model that comes with the package"
        ) from error
