"""What every codec of the registry must keep, whoever wrote it: the proofs come with the file."""

from __future__ import annotations

import importlib
import random
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.codec import codec as codecs
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.errors import ProtocolError, UserError
from manyhands.node.stage import Journal

every_codec = st.sampled_from(codecs.names())


@st.composite
def ordinary_rows(draw: st.DrawFn, name: str) -> np.ndarray:
    """[T, D] rows such as a codec promises its error for: RMS in [0.01, 1000], below 60000."""
    rows, width = draw(st.integers(0, 6)), draw(st.integers(1, 70))
    noise = random.Random(draw(st.integers(0, 2**32)))
    if codecs.named(name).takes == "bits":
        share = draw(st.floats(0, 1))
        bits = [noise.random() < share for _ in range(rows * width)]
        return np.array(bits, np.float32).reshape(rows, width)
    array = np.array([noise.gauss(0, 1) for _ in range(rows * width)]).reshape(rows, width)
    if draw(st.booleans()):  # one channel far out, as real hidden states have
        array[:, draw(st.integers(0, width - 1))] *= 50
    scale = draw(st.floats(0.02, 500))
    rms = np.sqrt(np.mean(array**2, axis=1, keepdims=True))
    return (array / rms * scale).astype(np.float32)


pairs = every_codec.flatmap(lambda name: st.tuples(st.just(name), ordinary_rows(name)))


@given(pairs)
def test_a_round_trip_stays_within_the_error_the_codec_names(pair):
    name, rows = pair
    back = codecs.decode(codecs.encode(name, rows))
    assert back.dtype == np.float32
    assert back.shape == rows.shape
    assert back.flags.writeable
    for row, again in zip(rows.astype(np.float64), back.astype(np.float64), strict=True):
        error = np.sqrt(np.mean((again - row) ** 2))
        assert error <= codecs.named(name).error * np.sqrt(np.mean(row**2))


@given(pairs)
def test_a_rows_bytes_are_the_same_alone_and_among_others(pair):
    name, rows = pair
    codec = codecs.named(name)
    alone = [bytes(codecs.encode(name, row[None]).payload) for row in rows]
    assert b"".join(alone) == bytes(codecs.encode(name, rows).payload)
    assert all(len(row) == codec.row_bytes(rows.shape[1]) > 0 for row in alone)


@given(pairs, st.data())
def test_a_journal_of_encoded_rows_gives_back_any_of_them_undecoded(pair, data):
    name, rows = pair
    middle = data.draw(st.integers(0, len(rows)))
    journal = Journal()
    for part in (rows, rows[middle:]):  # the second part is sent again, over what it replaces
        journal.cut(middle if part is not rows else 0)
        journal.append(codecs.encode(name, part))
    if len(rows):
        assert journal.rows(0, middle) == codecs.encode(name, rows[:middle])
        assert journal.rows(middle, len(rows)) == codecs.encode(name, rows[middle:])


@given(pairs)
def test_equal_rows_give_equal_bytes_however_they_lie_in_memory(pair):
    name, rows = pair
    apart = np.asfortranarray(rows)
    wide = np.repeat(rows, 2, axis=1)[:, ::2]
    assert codecs.encode(name, rows) == codecs.encode(name, apart) == codecs.encode(name, wide)
    assert codecs.encode(name, rows) == codecs.encode(name, rows.astype(np.float64))


@given(pairs, st.integers(1, 20))
def test_decoding_does_not_care_where_the_payload_lies(pair, offset):
    name, rows = pair
    frame = codecs.encode(name, rows)
    apart = memoryview(bytes(offset) + bytes(frame.payload))[offset:]
    again = codecs.decode(TensorFrame(name, frame.shape, apart))
    np.testing.assert_array_equal(again, codecs.decode(frame))


@pytest.mark.parametrize("name", codecs.names())
@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (3, 0)])
def test_empty_arrays_have_empty_payloads(name, shape):
    frame = codecs.encode(name, np.zeros(shape, np.float32))
    assert len(frame.payload) == 0
    assert codecs.decode(frame).shape == shape


@pytest.mark.parametrize("name", codecs.names())
def test_a_payload_of_the_wrong_length_is_refused(name):
    payload = bytes(codecs.encode(name, np.ones((2, 9), np.float32)).payload)
    for wrong in (payload[:-1], payload + b"\0", b""):
        with pytest.raises(ProtocolError, match=name):
            codecs.decode(TensorFrame(name, (2, 9), wrong))
    with pytest.raises(ProtocolError, match="shape"):
        codecs.decode(TensorFrame(name, (-2, -9), payload))


def test_an_unknown_codec_is_refused_with_those_there_are():
    with pytest.raises(ProtocolError, match="fp16"):
        codecs.decode(TensorFrame("morse", (1, 1), b"1"))
    with pytest.raises(ProtocolError, match="morse"):
        codecs.encode("morse", np.zeros((1, 1), np.float32))


def test_only_rows_are_encoded():
    with pytest.raises(UserError, match="reshape"):
        codecs.encode("fp32", np.zeros(3, np.float32))


NEW_FILE = """
class Doubled:
    name, takes, error = {name!r}, "numbers", 0.0

CODECS = (Doubled(),)
"""


@pytest.fixture
def new_codec_file(tmp_path, monkeypatch):
    """Puts a file beside the codecs, as an extension would, and forgets it afterwards."""
    package = importlib.import_module("manyhands.codec")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])

    def write(name: str) -> None:
        (tmp_path / "doubled_for_test.py").write_text(NEW_FILE.format(name=name))

    yield write
    sys.modules.pop("manyhands.codec.doubled_for_test", None)
    vars(package).pop("doubled_for_test", None)


def test_a_new_file_in_the_folder_is_a_new_codec(new_codec_file):
    new_codec_file("doubled")
    assert set(codecs._find()) == {*codecs.names(), "doubled"}


def test_two_codecs_of_one_name_are_noticed(new_codec_file):
    new_codec_file("fp32")
    with pytest.raises(ValueError, match="two codecs"):
        codecs._find()
