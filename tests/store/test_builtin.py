"""What a person may call a model."""

import pytest

from manyhands.errors import CheckpointError
from manyhands.store.builtin import folder_of, storyteller_folder


def test_the_storyteller_is_known_by_its_name():
    assert folder_of("storyteller") == storyteller_folder()


def test_a_folder_is_a_model_by_its_path(tmp_path):
    assert folder_of(tmp_path) == tmp_path
    assert folder_of(str(tmp_path)) == tmp_path


def test_a_folder_named_as_a_model_of_ours_goes_first(tmp_path, monkeypatch):
    (tmp_path / "storyteller").mkdir()
    monkeypatch.chdir(tmp_path)
    assert folder_of("storyteller").resolve() == tmp_path / "storyteller"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Qwen/Qwen3-4B", "hf download Qwen/Qwen3-4B --local-dir FOLDER"),
        ("no-such-folder", "config.json and safetensors"),
        ("/no/such/folder", "config.json and safetensors"),
    ],
)
def test_what_is_no_model_says_what_to_try(name, said):
    with pytest.raises(CheckpointError, match="there is no folder") as error:
        folder_of(name)
    assert said in str(error.value)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.gguf").touch()
    with pytest.raises(CheckpointError, match="is a file; name the folder"):
        folder_of(tmp_path / "model.gguf")
