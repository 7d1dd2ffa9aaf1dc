"""Finds a model folder's safetensors files and their tensors: one, several with an index, or ours.

Ours are a file a layer, its tensors named within the layer: layers alike may be one file, linked.

Refuses what is no such folder, and other formats, with what to do about it. Knows nothing of what
the tensors mean.
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path, PureWindowsPath

from manyhands.errors import CheckpointError
from manyhands.store.json_file import POINTER, read_object, refuse_pointer
from manyhands.store.safetensors_header import Place, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
UNFINISHED = "conversion-not-finished.json"
"""Stands in a folder while `weight_writer` fills it."""

_LAYER = re.compile(r"layer-(\d{5})\.safetensors")

MOST_INDEX_BYTES = 64 * 2**20

_CONVERT = (
    "convert it where the model came from, with transformers: "
    "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
)


_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ONE_OF_SEVERAL = re.compile(r".+-\d+-of-\d+\.safetensors")


def model_folder(path: str | PathLike[str]) -> Path:
    """The folder that `path` names, a leading `~` expanded.

    Raises CheckpointError for what is no path or no folder, saying what it may have been meant as.
    """
    if path == "":
        raise CheckpointError("the model folder is ''; give the folder with config.json in it")
    try:
        folder = Path(path).expanduser()
    except TypeError as error:
        raise CheckpointError(
            f"the model folder is {path!r:.200}; give a path, as a text or a pathlib.Path"
        ) from error
    except RuntimeError as error:  # ~ of a user who has no home
        raise CheckpointError(f"{path} cannot be expanded: {error}; write it out") from error
    try:
        is_there, is_folder = folder.exists(), folder.is_dir()
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
    if is_folder:
        return folder
    if is_there and folder.suffix == ".gguf":
        raise CheckpointError(f"{folder} is a GGUF file; {_gguf(folder.parent, folder.name)}")
    what = "is a file" if is_there else "is no folder"
    raise CheckpointError(
        f"{folder} {what}; give the folder with config.json in it{_of_the_hub(str(path))}"
    )


def is_hub_name(text: str) -> bool:
    """True for what models are called on the Hugging Face hub: OWNER/NAME."""
    return _HUB_NAME.fullmatch(text) is not None


def _of_the_hub(path: str) -> str:
    if not is_hub_name(path):
        return ""
    name = path.split("/")[1]
    return (
        f". If {path} is a model's name on the Hugging Face hub: `hands run` and `hands serve` "
        f"download it; else download the folder first (hf download {path} --local-dir {name}), "
        "then give that folder"
    )


def layer_file(layer: int) -> str:
    """The file of our own layout that a layer's tensors lie in."""
    return f"layer-{layer:05d}.safetensors"


def is_own(file: Path) -> bool:
    """True for a file of our own layout."""
    return _LAYER.fullmatch(file.name) is not None


def find_tensors(folder: Path) -> dict[str, Place]:
    """Where each tensor of the folder lies; reads headers only.

    A `model.safetensors` comes first, then the index, as in transformers. Raises CheckpointError.
    """
    if (folder / UNFINISHED).exists():
        raise CheckpointError(
            f"{folder} is half converted: `hands pull` was broken off there; remove it and convert "
            "the model again"
        )
    if (folder / SINGLE).exists():
        return read_header(_regular(folder / SINGLE))
    if (folder / INDEX).exists():
        return _from_index(folder)
    if (folder / layer_file(0)).exists():
        return _from_layers(folder)
    raise CheckpointError(_other_format(folder))


def _from_layers(folder: Path) -> dict[str, Place]:
    """Tensors of our own layout: `q` in the file of layer 3 is `3.q`."""
    places: dict[str, Place] = {}
    for file in sorted(folder.iterdir()):
        named = _LAYER.fullmatch(file.name)
        if named is not None:
            found = read_header(_regular(file))
            places.update({f"{int(named[1])}.{name}": place for name, place in found.items()})
    return places


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
    """`file` itself, if it is there and no pointer to it."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; the download is not complete, run it again")
    try:
        with file.open("rb") as stream:
            refuse_pointer(file, stream.read(len(POINTER)))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    return file


def _gguf(folder: Path, name: str) -> str:
    return (
        "GGUF files are not read yet: take the model's safetensors files, or convert it with "
        f"transformers: AutoModelForCausalLM.from_pretrained({str(folder)!r}, gguf_file={name!r})"
        ".save_pretrained(new_folder), and the same with AutoTokenizer"
    )


def _other_format(folder: Path) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"

    def first(suffix: str) -> str | None:
        return next((name for name in names if name.endswith(suffix)), None)

    part = next((name for name in names if _ONE_OF_SEVERAL.fullmatch(name)), None)
    if part is not None:
        return (
            f"{folder / part} is one of several files, and {INDEX}, which says what is in which, "
            "is missing; fetch it from where the model came from"
        )
    single = first(".safetensors")
    if single is not None:
        return f"{folder / single} is there but no {SINGLE} or {INDEX}; {_CONVERT}"
    gguf = first(".gguf")
    if gguf is not None:
        return f"{folder} holds {gguf} and no {SINGLE}; {_gguf(folder, gguf)}"
    pickled = first(".bin") or first(".pth")
    if pickled is not None:
        return f"{folder / pickled} is a PyTorch pickle file; only safetensors are read; {_CONVERT}"
    what = (
        "its download is not complete, run it again"
        if "config.json" in names
        else "it is no model folder: one has config.json and safetensors files"
    )
    return f"{folder} holds no {SINGLE} and no {INDEX}; {what}"
