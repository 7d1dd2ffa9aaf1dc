"""Manifests: pieces cover their files, are numbered in one row, and bad ones cannot be made."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.ids import ModelId
from manyhands.domain.manifest import (
    LARGE_MODEL_BYTES,
    FileEntry,
    Manifest,
    PieceRun,
    PieceTable,
    may_be_named,
    piece_bytes_for,
    pieces_in,
    runs_of,
)

SIZE = 4096
HASH = "ab" * 32


def entry(name: str, size: int, head: int = 0) -> FileEntry:
    return FileEntry(name, size, head, (HASH,) * math.ceil(size / SIZE))


def manifest(*sizes: int) -> Manifest:
    files = (entry(f"f{number}.json", size) for number, size in enumerate(sizes))
    return Manifest(ModelId("0d" * 32), SIZE, tuple(files))


@given(st.lists(st.integers(0, 5 * SIZE), min_size=1, max_size=5))
def test_the_pieces_of_all_files_lie_end_to_end(sizes):
    table = PieceTable(manifest(*sizes))
    pieces = [table[number] for number in range(len(table))]
    assert [piece.number for piece in pieces] == list(range(len(table)))
    for number, size in enumerate(sizes):
        own = [piece for piece in pieces if piece.file == f"f{number}.json"]
        ends = [0, *(piece.last for piece in own)]
        assert ends == [*(piece.first for piece in own), size]
    assert table.size_bytes(range(len(table))) == sum(sizes)


@given(st.integers(1, 5 * SIZE), st.data())
def test_the_pieces_of_a_range_are_those_that_hold_a_byte_of_it(size, data):
    table = PieceTable(manifest(SIZE + 1, size, 3))
    first = data.draw(st.integers(0, size))
    last = data.draw(st.integers(first, size))
    due = {
        number
        for number in range(len(table))
        if table[number].file == "f1.json"
        and max(first, table[number].first) < min(last, table[number].last)
    }
    assert set(table.covering("f1.json", first, last)) == due
    assert table.of_ranges({"f1.json": [(first, last)]}) == due


def test_heads_are_all_of_small_files_and_the_headers_of_large_ones():
    files = (
        entry("config.json", 5, 5),
        entry("m.safetensors", 5 * SIZE, SIZE + 1),
        entry("e.txt", 0),
    )
    table = PieceTable(Manifest(ModelId("0d" * 32), SIZE, files))
    assert table.heads() == {0, 1, 2}


@given(st.frozensets(st.integers(0, 60)))
def test_runs_say_the_same_pieces_in_few_words(numbers):
    runs = runs_of(numbers)
    assert list(pieces_in(runs, 100)) == sorted(numbers)
    assert all(one.last < other.first for one, other in pairwise(runs))
    assert list(pieces_in((*runs, *runs, PieceRun(0, 10**9)), 9)).count(8) <= 1
    assert set(pieces_in(runs, 30)) == {number for number in numbers if number < 30}


def test_its_name_changes_with_everything_in_it():
    one = manifest(5, SIZE)
    others = [
        replace(one, model=ModelId("0e" * 32)),
        replace(one, piece_bytes=2 * SIZE),
        manifest(5, SIZE - 1),
        replace(one, files=(one.files[0], replace(one.files[1], pieces=("cd" * 32,)))),
        replace(one, files=(one.files[0], replace(one.files[1], head_bytes=1))),
    ]
    assert len({one.digest(), *(other.digest() for other in others)}) == 6
    assert manifest(5, SIZE).digest() == one.digest()


@pytest.mark.parametrize(
    "name",
    ["../x.json", "/etc/x.json", "a/b/c.json", ".pieces/x.json", "x.py", "x", "a\\b.json",
     "a..json", "C:x.json", "x.json\n", "ü.json", "x" * 300 + ".json"],
)  # fmt: skip
def test_names_that_lead_elsewhere_or_are_of_other_kinds_are_refused(name):
    assert not may_be_named(name)
    with pytest.raises(ValueError, match="no name"):
        entry(name, 1)


def test_what_makes_no_sense_cannot_be_made():
    good = manifest(SIZE + 1)
    with pytest.raises(ValueError, match="in 1 pieces"):
        replace(good, files=(replace(good.files[0], pieces=(HASH,)),))
    with pytest.raises(ValueError, match="power of two"):
        replace(good, piece_bytes=5000)
    with pytest.raises(ValueError, match="named twice"):
        replace(good, files=(entry("a.json", 1), entry("A.json", 1)))
    with pytest.raises(ValueError, match="0 files"):
        replace(good, files=())
    with pytest.raises(ValueError, match="SHA-256"):
        FileEntry("a.json", 1, 1, ("AB" * 32,))
    with pytest.raises(ValueError, match="of head"):
        entry("a.json", 1, 2)
    with pytest.raises(ValueError, match="run"):
        PieceRun(3, 3)
    with pytest.raises(IndexError):
        PieceTable(good)[2]


def test_large_models_have_large_pieces():
    assert (piece_bytes_for(LARGE_MODEL_BYTES), piece_bytes_for(LARGE_MODEL_BYTES + 1)) == (
        1 << 20,
        1 << 22,
    )
