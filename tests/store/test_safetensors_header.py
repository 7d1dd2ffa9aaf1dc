"""A header is believed only when every byte of the file belongs to exactly one tensor."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from manyhands.errors import CheckpointError
from manyhands.store.safetensors_header import MOST_HEADER_BYTES, parse_header, read_header

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def packed(table, data=b"\x00" * 32, length=None):
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def written(folder, content):
    file = folder / "model.safetensors"
    file.write_bytes(content)
    return file


def refusal(folder, content):
    file = written(folder, content)
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


def changed(name="a", **values):
    return {**GOOD, name: {**GOOD[name], **values}}


def test_what_safetensors_writes_is_read_with_the_right_bytes(tmp_path):
    arrays = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "none": np.empty((0, 4), np.float32),
        "scalar": np.array(7.5),
        "bytes": np.arange(5, dtype=np.uint8),
    }
    file = written(tmp_path, save(arrays, metadata={"format": "pt"}))
    content, places = file.read_bytes(), read_header(file)
    assert places.keys() == arrays.keys()
    for name, array in arrays.items():
        place = places[name]
        assert place.shape == array.shape
        assert content[place.first : place.last] == array.tobytes()


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = packed(GOOD)
    read_header(written(tmp_path, whole))
    for length in range(len(whole)):
        refusal(tmp_path, whole[:length])


def test_bytes_behind_the_last_tensor_are_refused(tmp_path):
    assert "its tensors end" in refusal(tmp_path, packed(GOOD) + b"x")


def test_a_header_that_says_it_is_huge_is_refused_before_it_is_read(tmp_path):
    for length in (MOST_HEADER_BYTES + 1, 2**63, 2**64 - 1):
        assert str(length) in refusal(tmp_path, packed(GOOD, length=length))


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (changed(data_offsets=[0, 20]), "'a'.*needs 24 bytes"),
        (changed(shape=[2, 4]), "'a'.*needs 32 bytes"),
        (changed(dtype="F16"), "'a'.*needs 12 bytes"),
        (changed(dtype="F4"), "'a'.*dtype 'F4'"),
        (changed(dtype=None), "'a'.*dtype"),
        (changed(shape=[-2, -3]), "'a'.*shape"),
        (changed(shape=[2.0, 3]), "'a'.*shape"),
        (changed(shape=[True, 6]), "'a'.*shape"),
        (changed(shape="6"), "'a'.*shape"),
        (changed(shape=[1] * 9 + [6]), "'a'.*dimensions"),
        (changed(shape=[2**62, 2**62]), "'a'.*needs"),
        (changed(shape=[10**4000, 10**4000]), "'a'.*shape"),
        (changed(data_offsets=[24, 0]), "'a'"),
        (changed(data_offsets=[-24, 0]), "'a'.*data_offsets"),
        (changed(data_offsets=[0]), "'a'.*data_offsets"),
        (changed(data_offsets=None), "'a'.*data_offsets"),
        (changed("b", data_offsets=[20, 28]), "'b'.*overlaps"),
        (changed("b", data_offsets=[0, 8]), "overlaps"),
        (changed("b", data_offsets=[26, 34]), "'b'.*ends at byte"),
        ({**GOOD, "a": 7}, "'a'"),
        ({"b": GOOD["b"]}, "hole before tensor 'b'"),
        ({"a": GOOD["a"]}, "its tensors end"),
        ([], "no JSON object"),
        (b"{", "no JSON"),
        (b"\xff{}", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a":1,"a":2}', "'a' twice"),
        (b'{"a":{"dtype":"F32","dtype":"F16"}}', "'dtype' twice"),
    ],
)
def test_a_lying_header_is_refused_naming_the_tensor(tmp_path, table, why):
    with pytest.raises(CheckpointError, match=why):
        read_header(written(tmp_path, packed(table)))


def test_a_folder_or_nothing_in_place_of_a_file_is_a_typed_error(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_header(path)


GOOD_TEXT = json.dumps(GOOD).encode()


@settings(max_examples=500, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(GOOD_TEXT) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    data_bytes=st.sampled_from([32, 32, 0, 31]),
)
def test_damaged_header_bytes_give_places_inside_the_file_or_a_typed_error(edits, data_bytes):
    text = bytearray(GOOD_TEXT)
    for at, byte in edits:
        text[at] = byte
    try:
        places = parse_header(Path("f"), bytes(text), data_bytes)
    except CheckpointError:
        return
    covered = sorted((place.first, place.last) for place in places.values())
    assert sum(last - first for first, last in covered) == data_bytes
    assert all(8 + len(text) <= a <= b <= 8 + len(text) + data_bytes for a, b in covered)


@settings(max_examples=200, deadline=None)
@given(text=st.binary(max_size=80))
def test_any_bytes_as_a_header_give_a_typed_error_or_nothing(text):
    with contextlib.suppress(CheckpointError):
        assert parse_header(Path("f"), text, 0) == {}
