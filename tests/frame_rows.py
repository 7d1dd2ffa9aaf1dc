"""Rows of encoded frames, cut and joined without decoding: what tests compare journals with."""

from collections.abc import Sequence

from manyhands.domain.tensor_frame import TensorFrame


def cut(frame: TensorFrame, first: int, last: int) -> TensorFrame:
    """Rows [first, last) of a frame."""
    size = frame.row_bytes
    payload = memoryview(frame.payload)[first * size : last * size]
    return TensorFrame(frame.codec, (last - first, frame.shape[1]), payload)


def join(frames: Sequence[TensorFrame]) -> TensorFrame:
    """One frame of the rows of all, in order."""
    rows = sum(frame.shape[0] for frame in frames)
    payload = b"".join(frame.payload for frame in frames)
    return TensorFrame(frames[0].codec, (rows, frames[0].shape[1]), payload)
