"""A folder that comes piece by piece: kept if right, known after any end."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from manyhands.domain.ids import ModelId
from manyhands.domain.manifest import FileEntry, Manifest
from manyhands.errors import CheckpointError, ResourceError
from manyhands.store.fetched import RECORD, FetchedFolder

SIZE = 4096
DATA = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "m.safetensors": os.urandom(9000)}


def cut(data: bytes) -> list[bytes]:
    return [data[first : first + SIZE] for first in range(0, len(data), SIZE)]


PIECES = [piece for data in DATA.values() for piece in cut(data)]
MANIFEST = Manifest(
    ModelId("0d" * 32),
    SIZE,
    tuple(
        FileEntry(name, len(data), 2, tuple(hashlib.sha256(p).hexdigest() for p in cut(data)))
        for name, data in DATA.items()
    ),
)


@pytest.fixture
def folder(tmp_path):
    made = FetchedFolder.create(tmp_path / "m", MANIFEST)
    assert made.try_lock()
    return made


def test_pieces_in_any_order_and_any_cut_make_the_files(folder):
    for number in (4, 0, 3, 1, 2):
        data = PIECES[number]
        assert folder.write(number, [data[:7], memoryview(data)[7:]])
        assert folder.read(number, 1, len(data)) == data[1:]
    folder.release()
    assert folder.is_whole
    for name, data in DATA.items():
        assert (folder.folder / name).read_bytes() == data
        assert folder.holds(name, 0, len(data))


def test_other_bytes_are_never_written(folder):
    for data in (PIECES[2][:-1], PIECES[2] + b"x", bytes(SIZE), b""):
        assert not folder.write(2, [data])
    assert folder.had == set()
    assert (folder.folder / "m.safetensors").read_bytes() == bytes(9000)
    with pytest.raises(CheckpointError, match="not here"):
        folder.read(2, 0, 1)
    assert not folder.holds("m.safetensors", 0, 1)
    assert not folder.holds("other", 0, 1)


def test_what_was_kept_is_known_after_a_clean_end_and_after_a_kill(folder):
    folder.write(2, [PIECES[2]])
    killed = FetchedFolder.open(folder.folder)  # nobody released anything
    assert killed.had == {2}
    folder.release()
    assert FetchedFolder.open(folder.folder).had == {2}


def test_after_a_clean_end_nothing_is_hashed_again(folder, monkeypatch):
    folder.write(2, [PIECES[2]])
    folder.release()
    hashed = []
    monkeypatch.setattr(FetchedFolder, "_is_whole", lambda self, number: hashed.append(number))
    assert FetchedFolder.open(folder.folder).had == {2}
    assert hashed == []


def test_a_piece_that_was_spoilt_on_the_disk_is_fetched_anew(folder):
    for number, data in enumerate(PIECES):
        folder.write(number, [data])
    folder.release()
    file = folder.folder / "m.safetensors"
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)
    spoilt = FetchedFolder.open(folder.folder)
    assert spoilt.had == {0, 1, 2, 4}
    assert spoilt.try_lock()
    assert spoilt.write(3, [PIECES[3]])
    spoilt.release()
    assert FetchedFolder.open(folder.folder).is_whole


def test_a_record_that_was_cut_short_or_names_too_much_is_read_as_far_as_it_holds(folder):
    folder.write(2, [PIECES[2]])
    folder.release()
    with (folder.folder / RECORD / "had").open("ab") as stream:
        stream.write((3).to_bytes(4, "big") + (77).to_bytes(4, "big") + b"\x00\x00")
    assert FetchedFolder.open(folder.folder).had == {2}
    (folder.folder / RECORD / "manifest.json").write_bytes(b'{"model"')
    with pytest.raises(CheckpointError, match=r"remove .* and fetch the model again"):
        FetchedFolder.open(folder.folder)


def test_one_process_writes_at_a_time_and_the_next_knows_what_it_wrote(folder):
    other = FetchedFolder.open(folder.folder)
    assert not other.try_lock()
    folder.write(1, [PIECES[1]])
    folder.release()
    assert other.try_lock()
    assert other.had == {1}
    other.release()


def test_a_disk_or_budget_that_is_too_small_is_said_before_anything_is_written(folder, monkeypatch):
    with pytest.raises(ResourceError, match=r"--disk.*--span"):
        folder.check_room(range(5), 4000)
    folder.check_room(range(5), 10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Full())
    with pytest.raises(ResourceError, match="its disk has"):
        folder.check_room(range(5), 0)
    folder.check_room([], 0)


class _Full:
    free = 10


def test_a_disk_that_fills_up_is_said_and_the_piece_is_not_counted(folder, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(ResourceError, match="No space left"):
        folder.write(2, [PIECES[2]])
    assert folder.had == set()


def test_an_ordinary_folder_is_no_fetched_one(tmp_path):
    assert FetchedFolder.open(tmp_path) is None
