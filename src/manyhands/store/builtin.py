"""The models that come with this package, and what a person may call a model.

Today a name of ours or a folder; a hub's name is refused with what to do instead.
"""

from __future__ import annotations

import re
from pathlib import Path

from manyhands.errors import CheckpointError

STORYTELLER = "storyteller"
"""A small model of our own that tells stories: enough to see the whole work, no more."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def storyteller_folder() -> Path:
    """Where the storyteller's files are in this installation."""
    return Path(__file__).parent.parent / STORYTELLER


def folder_of(name: str | Path) -> Path:
    """The folder of a model that a person named: `storyteller`, or a folder's path.

    Raises CheckpointError for what is neither, saying what to try.
    """
    folder = Path(name).expanduser()
    if str(name) == STORYTELLER and not folder.is_dir():
        return storyteller_folder()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; name the folder that holds config.json")
    if _HUB_NAME.fullmatch(str(name)) and not str(name).startswith("."):
        raise CheckpointError(
            f"there is no folder {str(name)!r}. If it is a name of the Hugging Face hub: this "
            f"version does not download yet; `hf download {name} --local-dir FOLDER` does, then "
            "name that folder"
        )
    raise CheckpointError(
        f"there is no folder {str(name)!r}; name one with config.json and safetensors files, or "
        f"`{STORYTELLER}`, which comes with the package"
    )
