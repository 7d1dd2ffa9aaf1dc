"""What a person may call a model."""

import pytest

from manyhands.errors import CheckpointError
from manyhands.store.builtin import folder_of, storyteller_folder


def test_the_storyteller_is_known_by_its_name():
    assert folder_of("storyteller") == storyteller_folder()


def test_a_folder_is_a_model_by_its_path(tmp_path):
    assert folder_of(tmp_path) == tmp_path
    assert folder_of(str(tmp_path)) == tmp_path


def test_a_folder_of_that_name_goes_first(tmp_path, monkeypatch):
    (tmp_path / "storyteller").mkdir()
    monkeypatch.chdir(tmp_path)
    assert folder_of("storyteller").resolve() == tmp_path / "storyteller"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Qwen/Qwen3-4B", "hf download Qwen/Qwen3-4B --local-dir Qwen3-4B"),
        ("no-such-folder", "is no folder"),
        ("", "config.json"),
    ],
)
def test_what_is_no_model_says_what_to_try_and_names_ours(name, said):
    with pytest.raises(CheckpointError, match="storyteller") as error:
        folder_of(name)
    assert said in str(error.value)
