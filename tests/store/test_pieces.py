"""A whole folder as pieces: all that a model needs, nothing else, hashed in slices."""

from __future__ import annotations

import hashlib
import json

import pytest

import tiny
from manyhands.domain.manifest import PieceRun, PieceTable
from manyhands.errors import CheckpointError
from manyhands.store import pieces
from manyhands.store.checkpoint import Checkpoint
from pieces_house import PIECE_BYTES, whole


@pytest.fixture
def source(tmp_path):
    return tiny.make("llama-sharded", tmp_path / "little")


def prepared(folder) -> pieces.WholeFolder:
    shelf = whole(folder)
    while not shelf.prepare():
        pass
    return shelf


def test_every_piece_is_what_its_name_says_and_all_together_are_the_files(source):
    shelf = prepared(source)
    table = PieceTable(shelf.manifest)
    assert shelf.runs() == (PieceRun(0, len(table)),)
    for file in shelf.manifest.files:
        numbers = table.covering(file.name, 0, file.size_bytes)
        data = [shelf.read(number, 0, table[number].size_bytes) for number in numbers]
        assert b"".join(data) == (source / file.name).read_bytes()
        assert [hashlib.sha256(one).hexdigest() for one in data] == list(file.pieces)
    assert shelf.read(0, 3, 9) == (source / table[0].file).read_bytes()[3:9]
    for number, first, last in ((len(table), 0, 1), (0, PIECE_BYTES, PIECE_BYTES + 1), (0, 5, 5)):
        with pytest.raises(CheckpointError, match="no bytes"):
            shelf.read(number, first, last)


def test_what_is_no_part_of_a_model_stays_at_home(source):
    for name in ("README.md", "run.py", ".secret.json", "pytorch_model.bin", "other.safetensors"):
        (source / name).write_bytes(b"{}")
    named = {file.name for file in prepared(source).manifest.files}
    weights = {file.name for file in Checkpoint.open(source).weight_files()}
    assert weights < named
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} < named
    assert not named & {"README.md", "run.py", ".secret.json", "pytorch_model.bin"}
    assert "other.safetensors" not in named


def test_the_head_of_a_weights_file_is_its_header(source):
    for file in prepared(source).manifest.files:
        data = (source / file.name).read_bytes()
        is_weights = file.name.endswith(".safetensors")
        due = 8 + int.from_bytes(data[:8], "little") if is_weights else len(data)
        assert file.head_bytes == due


def test_hashing_is_done_in_slices_so_that_others_are_served_between(source, monkeypatch):
    monkeypatch.setattr(pieces, "HASHED_AT_A_TIME", 3 * PIECE_BYTES)
    shelf = whole(source)
    calls = 0
    while not shelf.prepare():
        calls += 1
        with pytest.raises(CheckpointError, match="not hashed yet"):
            _ = shelf.manifest
    total = sum(file.size_bytes for file in shelf.manifest.files)
    assert calls > total / (4 * PIECE_BYTES)
    assert shelf.manifest == prepared(source).manifest


def test_a_file_that_went_away_or_was_cut_is_said(source):
    shelf, late = prepared(source), whole(source)
    last = len(PieceTable(shelf.manifest)) - 1
    file = source / PieceTable(shelf.manifest)[last].file
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="ends too early"):
        shelf.read(last, 0, PieceTable(shelf.manifest)[last].size_bytes)
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        shelf.read(last, 0, 1)
    with pytest.raises(CheckpointError, match="cannot be read"):
        late.prepare()


def test_one_weights_file_that_an_index_names_is_given_with_it(tmp_path):
    folder = tiny.make("llama", tmp_path / "little")
    single = folder / "model.safetensors"
    names = Checkpoint.open(folder).weight_files()
    assert [file.name for file in names] == [single.name]
    part = "model-00001-of-00001.safetensors"
    with single.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    single.rename(folder / part)
    index = {"weight_map": {name: part for name in header if name != "__metadata__"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    given = {file.name for file in prepared(folder).manifest.files}
    assert {part, "model.safetensors.index.json"} <= given
