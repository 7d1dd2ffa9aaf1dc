"""A JSON file is read up to its cap, and each thing wrong with it is told by name."""

import pytest

from manyhands.errors import CheckpointError
from manyhands.store.json_file import read_object, read_text


def test_an_object_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, "é"]}', "utf-8")
    assert read_object(tmp_path / "a.json") == {"a": [1, 2.5, None, "é"]}


def test_a_file_over_its_cap_is_refused_and_one_at_its_cap_is_not(tmp_path):
    (tmp_path / "a.txt").write_text("12345")
    assert read_text(tmp_path / "a.txt", 5) == "12345"
    with pytest.raises(CheckpointError, match="over 4 bytes"):
        read_text(tmp_path / "a.txt", 4)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b'{"a": NaN}', b'{"a": -Infinity}', b"[" * 90_000, b"\xff"]
)
def test_what_is_no_object_is_refused_by_file_name(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.json"):
        read_object(tmp_path / "a.json")


def test_a_missing_file_and_a_folder_are_told_as_missing(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(CheckpointError, match="missing"):
            read_object(path)


def test_a_git_lfs_pointer_is_told_from_a_damaged_file(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
    (tmp_path / "a.json").write_text(pointer)
    for read in (read_object, lambda file: read_text(file, 30)):
        with pytest.raises(CheckpointError, match=r"a\.json is a git-lfs pointer.*git lfs pull"):
            read(tmp_path / "a.json")
