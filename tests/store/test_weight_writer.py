"""A folder of weights is whole or not there, and what is written is what transformers reads."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from manyhands.errors import CheckpointError, ResourceError
from manyhands.store.weight_files import UNFINISHED, find_tensors, layer_file
from manyhands.store.weight_writer import Planned, new_folder, write_weights

PLAN = [Planned("a", "F32", (2, 3)), Planned("b", "I8", (5,)), Planned("c", "U8", (4, 1))]
FILES = {layer_file(0): PLAN[:2], layer_file(7): PLAN[2:]}
ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(-2, 3, dtype=np.int8),
    "c": np.arange(4, dtype=np.uint8).reshape(4, 1),
}


def pieces(plan=PLAN):
    for planned in plan:
        data = ARRAYS[planned.name].tobytes()
        yield [memoryview(data)[:3], memoryview(data)[3:]]


def test_the_safetensors_library_reads_what_is_written(tmp_path):
    with new_folder(tmp_path / "m") as folder:
        write_weights(folder, FILES, pieces())
    read = {}
    for name in FILES:
        read |= load_file(tmp_path / "m" / name)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_tensors_are_found_under_their_layers_number_and_lie_where_vectors_may(tmp_path):
    with new_folder(tmp_path / "m") as folder:
        write_weights(folder, FILES, pieces())
    places = find_tensors(tmp_path / "m")
    assert {name: place.shape for name, place in places.items()} == {
        "0.a": (2, 3), "0.b": (5,), "7.c": (4, 1)
    }  # fmt: skip
    assert places["0.a"].first % 64 == places["7.c"].first % 64 == 0


def test_layers_that_are_links_to_one_file_are_layers_of_their_own(tmp_path):
    with new_folder(tmp_path / "m") as folder:
        write_weights(folder, FILES, pieces())
        (folder / layer_file(8)).hardlink_to(folder / layer_file(7))
        (folder / layer_file(9)).symlink_to(layer_file(7))
    places = find_tensors(tmp_path / "m")
    assert {"7.c", "8.c", "9.c"} < places.keys()
    assert len({place.first for name, place in places.items() if name.endswith("c")}) == 1


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_what_is_broken_off_leaves_nothing(tmp_path, trouble):
    def broken_off():
        with new_folder(tmp_path / "m") as folder:
            write_weights(folder, FILES, pieces())
            raise trouble

    with pytest.raises(trouble):
        broken_off()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_being_written_is_refused_by_name(tmp_path):
    with new_folder(tmp_path / "m") as folder:
        write_weights(folder, FILES, pieces())
        with pytest.raises(CheckpointError, match="half converted"):
            find_tensors(folder)
        assert not (tmp_path / "m").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(CheckpointError, match="is there already"), new_folder(tmp_path / "m"):
        pytest.fail("must not be written")
    assert not list((tmp_path / "m").iterdir())


def test_leftovers_of_a_killed_process_go_and_those_of_a_living_one_stay(tmp_path):
    for name, pid in (("dead", 2**22 + 1), ("alive", os.getpid())):
        left = tmp_path / f".unfinished-m-{name}"
        left.mkdir()
        (left / UNFINISHED).write_text(json.dumps({"pid": pid}))
    with new_folder(tmp_path / "m") as folder:
        write_weights(folder, FILES, pieces())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".unfinished-m-alive", "m"]


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path):
    plan = [Planned("huge", "F32", (2**40, 2**10))]
    with (
        pytest.raises(ResourceError, match="MB free, the weights take"),
        new_folder(tmp_path / "m") as folder,
    ):
        write_weights(folder, {layer_file(0): plan}, pieces([]))
    assert not list(tmp_path.iterdir())


def test_a_folder_in_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be made"), new_folder(tmp_path / "file" / "m"):
        pytest.fail("must not be written")
