"""The files of a model are found, or the folder is refused with what to do about it."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import tiny
from manyhands.errors import CheckpointError
from manyhands.store.weight_files import find_tensors, model_folder

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
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


def test_an_empty_folder_is_no_model_folder_and_one_with_a_config_an_unfinished_download(tmp_path):
    with pytest.raises(CheckpointError, match="it is no model folder"):
        find_tensors(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not complete"):
        find_tensors(tmp_path)


def test_a_link_to_the_weights_is_followed_as_download_caches_need(whole, tmp_path):
    for file in whole.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert find_tensors(tmp_path).keys() == find_tensors(whole).keys()


def test_a_gguf_file_is_not_read_yet_and_the_way_to_convert_it_is_told(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    told = r"GGUF files are not read yet.*gguf_file='tiny\.gguf'.*save_pretrained"
    with pytest.raises(CheckpointError, match=told):
        find_tensors(tmp_path)
    with pytest.raises(CheckpointError, match=told):
        model_folder(tmp_path / "tiny.gguf")


def test_a_gguf_file_beside_safetensors_disturbs_nobody(folder, whole):
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    assert find_tensors(folder).keys() == find_tensors(whole).keys()


def test_files_without_their_index_are_told_to_fetch_it(folder):
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json.*fetch it") as told:
        find_tensors(folder)
    assert "save_pretrained" not in str(told.value)


def test_a_git_lfs_pointer_in_place_of_weights_or_index_is_told(folder, tmp_path):
    part = sorted(folder.glob("*.safetensors"))[1]
    part.write_text(POINTER)
    with pytest.raises(CheckpointError, match=rf"{part.name} is a git-lfs pointer.*git lfs pull"):
        find_tensors(folder)
    (folder / INDEX).write_text(POINTER)
    with pytest.raises(CheckpointError, match=r"index\.json is a git-lfs pointer"):
        find_tensors(folder)
    (folder / "model.safetensors").write_text(POINTER)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a git-lfs pointer"):
        find_tensors(folder)


def test_a_folder_is_given_as_a_text_or_a_path_and_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "models").mkdir()
    for path in (str(tmp_path / "models"), tmp_path / "models", "~/models", Path("~/models")):
        assert model_folder(path) == tmp_path / "models"


@pytest.mark.parametrize("path", [None, 7, b"models", ["models"], 1.5])
def test_what_is_no_path_is_refused_with_its_value(path):
    with pytest.raises(CheckpointError, match="give a path") as told:
        model_folder(path)
    assert repr(path) in str(told.value)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "model folder is ''"),
        ("nowhere", "nowhere is no folder"),
        ("~nobody-of-this-name/models", "write it out"),
        ("a\x00b", "is no folder"),
        ("x" * 5000, "is no folder|cannot be read"),
    ],
)
def test_what_is_no_folder_is_refused_with_what_to_give(path, told):
    with pytest.raises(CheckpointError, match=told):
        model_folder(path)


def test_a_file_is_no_folder(whole):
    with pytest.raises(CheckpointError, match=r"config\.json is a file; give the folder"):
        model_folder(whole / "config.json")


def test_a_name_of_the_hub_is_told_to_be_downloaded_first():
    told = r"is no folder.*`hands run`.*hf download meta-llama/Llama-3\.2-1B --local-dir"
    with pytest.raises(CheckpointError, match=told):
        model_folder("meta-llama/Llama-3.2-1B")


@pytest.mark.parametrize("path", ["nowhere", "/models/llama", "./llama", "../llama", "a/b/c"])
def test_what_is_no_name_of_the_hub_gets_no_such_advice(path):
    with pytest.raises(CheckpointError) as told:
        model_folder(path)
    assert "download" not in str(told.value)
