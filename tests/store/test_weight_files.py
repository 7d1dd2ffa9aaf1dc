"""The files of a model are found, or the folder is refused with what to do about it."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

import tiny
from manyhands.errors import CheckpointError
from manyhands.store.weight_files import find_tensors

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny.make("llama-sharded", tmp_path_factory.mktemp("sharded"))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def change_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def test_a_sharded_folder_has_the_tensors_of_all_its_files(whole):
    places = find_tensors(whole)
    assert len({place.file.name for place in places.values()}) > 3
    assert places.keys() == json.loads((whole / INDEX).read_text())["weight_map"].keys()


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "sub/model.safetensors",
        "..\\outside.safetensors",
        "C:\\outside.safetensors",
        "C:outside.safetensors",
        "..",
        "",
        "config.json",
        "a\x00.safetensors",
        7,
        None,
        ["model.safetensors"],
    ],
)
def test_an_index_points_nowhere_but_to_weight_files_of_its_folder(folder, name):
    shutil.copy(next(folder.glob("*.safetensors")), folder.parent / "outside.safetensors")
    change_index(folder, lambda names: names.update({"model.norm.weight": name}))
    with pytest.raises(CheckpointError, match="same folder"):
        find_tensors(folder)


def test_a_missing_file_of_the_index_is_named(folder):
    gone = sorted(folder.glob("*.safetensors"))[2]
    gone.unlink()
    with pytest.raises(CheckpointError, match=rf"{gone.name} is missing"):
        find_tensors(folder)


def test_an_index_that_names_the_wrong_file_or_no_tensor_is_refused(folder):
    change_index(folder, lambda names: names.update({"phantom": names["model.norm.weight"]}))
    with pytest.raises(CheckpointError, match="'phantom'"):
        find_tensors(folder)


def test_a_tensor_in_two_files_is_refused(folder):
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    tensors = {**load_file(first), **load_file(second)}
    save_file(tensors, second)
    with pytest.raises(CheckpointError, match="again in"):
        find_tensors(folder)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": 7}', "[]", "{"])
def test_an_index_without_a_map_is_refused(folder, content):
    (folder / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match="index"):
        find_tensors(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf", "consolidated.safetensors"])
def test_another_format_is_refused_with_the_way_to_convert_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(CheckpointError, match=rf"{name}.*save_pretrained"):
        find_tensors(tmp_path)


def test_an_empty_folder_is_an_unfinished_download(tmp_path):
    with pytest.raises(CheckpointError, match="not complete"):
        find_tensors(tmp_path)


def test_a_link_to_the_weights_is_followed_as_download_caches_need(whole, tmp_path):
    for file in whole.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert find_tensors(tmp_path).keys() == find_tensors(whole).keys()
