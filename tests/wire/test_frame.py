"""Bytes <-> frames: any fragmentation gives the same frames; nothing over a cap is allocated."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.errors import FrameError
from manyhands.wire import frame as wire
from manyhands.wire.frame import CAPS, PREFIX_BYTES, Frame, FrameReader, Kind

frames = st.one_of(
    st.builds(
        Frame,
        st.sampled_from([int(Kind.STEP), int(Kind.RESULT)]),
        st.binary(max_size=300),
        st.lists(st.binary(min_size=1, max_size=400), max_size=3).map(tuple),
    ),
    st.builds(Frame, st.sampled_from(sorted(CAPS)), st.binary(max_size=300)),
)


def bytes_of(*several: Frame) -> bytes:
    return b"".join(b"".join(wire.encode(frame)) for frame in several)


def joined(frame: Frame) -> Frame:
    """As a reader gives it: one buffer."""
    return Frame(frame.kind, frame.header, (b"".join(frame.payload),) if frame.payload else ())


def prefix(length: int, kind: int, header: int) -> bytes:
    return struct.pack(">IHI", length, kind, header)


@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 700), min_size=1), st.booleans())
def test_any_fragmentation_gives_the_frames_that_were_encoded(several, sizes, is_buffered):
    data, reader, read = bytes_of(*several), FrameReader(), []
    at = turn = 0
    while at < len(data):
        piece = data[at : at + sizes[turn % len(sizes)]]
        turn += 1
        if is_buffered:  # as asyncio.BufferedProtocol does it: no more than the buffer takes
            view = reader.buffer()
            piece = piece[: len(view)]
            view[: len(piece)] = piece
            read += reader.advance(len(piece))
        else:
            read += reader.feed(piece)
        at += len(piece)
    reader.end()
    assert read == [joined(frame) for frame in several]


@pytest.mark.parametrize("piece", [1000, 65536, 10**7])
def test_frames_larger_than_the_scratch_are_read_whole(piece):
    several = [
        Frame(Kind.STEP, b"{}" * 50_000, (bytes(300_000),)),
        Frame(Kind.ACK, b'{"count":1}'),
        Frame(Kind.ANNOUNCE, b" " * 200_000),
        Frame(Kind.RESULT, b"", (bytes(range(256)) * 512,)),
        Frame(Kind.STEP, b"", (b"x",)),
    ]
    data, reader = bytes_of(*several), FrameReader()
    read = [f for at in range(0, len(data), piece) for f in reader.feed(data[at : at + piece])]
    assert read == several


def test_sending_copies_no_payload():
    payload = bytearray(1000)
    buffers = wire.encode(Frame(Kind.STEP, b"{}", (payload, b"rest")))
    assert buffers[1] is payload
    assert len(b"".join(buffers)) == Frame(Kind.STEP, b"{}", (payload, b"rest")).size


def test_a_large_payload_is_read_into_one_preallocated_buffer():
    reader, payload = FrameReader(), bytes(range(250)) * 4000
    head = bytes_of(Frame(Kind.STEP, b"{}", (payload,)))[: PREFIX_BYTES + 2]
    assert reader.feed(head) == []
    view = reader.buffer()
    assert len(view) == len(payload)
    view[:] = payload
    (frame,) = reader.advance(len(payload))
    view[0] = 77  # the frame's payload is this memory, not a copy of it
    assert frame.payload[0][0] == 77


def test_the_buffer_is_cut_to_the_size_hint_and_never_empty():
    reader = FrameReader()
    assert len(reader.buffer(5)) == 5
    assert len(reader.buffer(0)) > 0
    assert len(reader.buffer()) > 0


@pytest.mark.parametrize("kind", sorted(CAPS))
def test_a_frame_of_exactly_its_cap_passes_the_check_and_one_byte_more_names_the_cap(kind):
    cap = CAPS[kind]
    wire.check_size(kind, cap.header, cap.payload)
    for header, payload, limit in (
        (cap.header + 1, 0, cap.header),
        (0, cap.payload + 1, cap.payload),
    ):
        with pytest.raises(FrameError) as caught:
            FrameReader().feed(prefix(6 + header + payload, kind, header))
        said = str(caught.value)
        assert Kind(kind).name in said
        assert str(header + payload) in said
        assert str(limit) in said


def test_encoding_refuses_what_reading_would_refuse():
    with pytest.raises(FrameError, match="ACK"):
        wire.encode(Frame(Kind.ACK, b"{}", (b"payload",)))
    with pytest.raises(FrameError, match="unknown kind 999"):
        wire.encode(Frame(999, b"{}"))


@pytest.mark.parametrize(
    "bad",
    [
        prefix(20, 999, 4),
        prefix(5, Kind.ACK, 0),
        prefix(0, Kind.ACK, 0),
        prefix(10, Kind.ACK, 5),
        prefix(2**32 - 1, Kind.STEP, 0),
        prefix(2**32 - 1, Kind.STEP, 2**32 - 1),
    ],
)
def test_a_bad_prefix_is_refused_at_once_and_the_reader_stays_broken(bad):
    reader = FrameReader()
    reader.feed(bytes_of(Frame(Kind.ACK, b'{"count":1}')) + bad[:-1])
    with pytest.raises(FrameError):
        reader.feed(bad[-1:])
    with pytest.raises(FrameError):
        reader.feed(bytes_of(Frame(Kind.ACK, b'{"count":2}')))


def test_a_lying_length_allocates_nothing():
    reader = FrameReader()
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            reader.feed(prefix(2**32 - 1, Kind.STEP, 2**31))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1))
def test_any_prefix_either_waits_for_no_more_than_its_cap_or_is_refused(length, kind, header):
    reader = FrameReader()
    try:
        reader.feed(prefix(length, kind, header))
    except FrameError:
        return
    assert header <= CAPS[kind].header
    assert length - 6 - header <= CAPS[kind].payload


@given(st.binary(max_size=500))
def test_random_bytes_give_frames_or_a_frame_error(data):
    with contextlib.suppress(FrameError):
        FrameReader().feed(data)


def test_bytes_that_end_inside_a_frame_are_noticed():
    data = bytes_of(Frame(Kind.STEP, b"{}", (bytes(100),)))
    for last in (1, PREFIX_BYTES, PREFIX_BYTES + 1, len(data) - 1):
        reader = FrameReader()
        reader.feed(data[:last])
        with pytest.raises(FrameError, match="inside a frame"):
            reader.end()
