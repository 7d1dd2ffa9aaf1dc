"""Finds the safetensors files of a model folder, one or several with an index, and their tensors.

Refuses other formats with the way to convert them. Knows nothing of what the tensors mean.
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from manyhands.errors import CheckpointError
from manyhands.store.json_file import read_object
from manyhands.store.safetensors_header import Place, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MOST_INDEX_BYTES = 64 * 2**20

_CONVERT = (
    "convert it where the model came from, with transformers: "
    "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
)


def find_tensors(folder: Path) -> dict[str, Place]:
    """Where each tensor of the folder lies; reads headers only.

    A `model.safetensors` comes first, then the index, as in transformers. Raises CheckpointError.
    """
    if (folder / SINGLE).exists():
        return read_header(_regular(folder / SINGLE))
    if (folder / INDEX).exists():
        return _from_index(folder)
    raise CheckpointError(_other_format(folder))


def _from_index(folder: Path) -> dict[str, Place]:
    index = folder / INDEX
    weight_map = read_object(index, MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map; download it again")
    files = {_plain_name(index, name) for name in weight_map.values()}
    places: dict[str, Place] = {}
    for name in sorted(files):
        found = read_header(_regular(folder / name))
        doubled = places.keys() & found.keys()
        if doubled:
            tensor = min(doubled)
            raise CheckpointError(
                f"tensor {tensor!r} is in {places[tensor].file} and again in {folder / name}; "
                "the files do not belong together, download the model again"
            )
        places.update(found)
    for tensor, name in weight_map.items():
        if tensor not in places or places[tensor].file.name != name:
            raise CheckpointError(
                f"{index} says tensor {tensor!r} is in {name}, but it is not; "
                "the files do not belong together, download the model again"
            )
    return places


def _plain_name(index: Path, name: object) -> str:
    """`name` when it is a bare file name: an index must not point anywhere but into its folder."""
    good = (
        isinstance(name, str)
        and name.endswith(".safetensors")
        and "\x00" not in name
        and PureWindowsPath(name).name == name  # knows both kinds of slash, and drives
    )
    if not good:
        raise CheckpointError(
            f"{index} names the file {str(name)[:200]!r}; only .safetensors files in the same "
            "folder are read; download it again from a source you trust"
        )
    return str(name)


def _regular(file: Path) -> Path:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; the download is not complete, run it again")
    return file


def _other_format(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    for suffix, kind in ((".gguf", "GGUF"), (".bin", "PyTorch pickle"), (".pth", "PyTorch pickle")):
        found = next((name for name in names if name.endswith(suffix)), None)
        if found is not None:
            return f"{folder / found} is a {kind} file; only safetensors are read; {_CONVERT}"
    found = next((name for name in names if name.endswith(".safetensors")), None)
    if found is not None:
        return f"{folder / found} is there but no {SINGLE} or {INDEX}; {_CONVERT}"
    return f"{folder} holds no {SINGLE} and no {INDEX}; the download is not complete, run it again"
