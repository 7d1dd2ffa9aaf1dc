"""Reads and checks the header of one safetensors file: which bytes hold which tensor.

The form (github.com/huggingface/safetensors): 8 bytes little-endian length, that many bytes of JSON
{name: {dtype, shape, data_offsets}}, then the data, covered by the offsets without hole or overlap.
Nothing in a header is trusted. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands.domain.tensor_frame import DTYPE_BYTES
from manyhands.errors import CheckpointError

MOST_HEADER_BYTES = 32 * 2**20
"""The largest known headers (mixtures of experts in one file) are near 10 MB."""

MOST_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: bytes [first, last) of `file`, of `dtype`, row-major `shape`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    first: int
    last: int


def read_header(file: Path) -> dict[str, Place]:
    """The place of every tensor in `file`; reads the header only.

    Raises CheckpointError naming the file and, where it is one tensor's fault, the tensor.
    """
    try:
        with file.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            start = _read(stream.fileno(), 8)
            if len(start) < 8:
                raise _damaged(file, f"it has {len(start)} bytes, fewer than the 8 of its length")
            length = int.from_bytes(start, "little")
            if length > MOST_HEADER_BYTES:
                raise _damaged(file, f"its header says {length} bytes; {MOST_HEADER_BYTES} is most")
            if 8 + length > size:
                raise _damaged(file, f"its header ends at byte {8 + length}, the file at {size}")
            text = _read(stream.fileno(), length)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    return parse_header(file, text, size - 8 - length)


def header_bytes(file: Path) -> int:
    """How many bytes of a file that `read_header` took come before its tensors."""
    with file.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def _read(descriptor: int, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(descriptor, count - len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)


def parse_header(file: Path, text: bytes, data_bytes: int) -> dict[str, Place]:
    """The places that header `text` gives for the `data_bytes` bytes behind it.

    Raises CheckpointError as `read_header`.
    """
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_no_doubles)
    except _Doubled as error:
        raise _damaged(file, f"its header names {error} twice") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(file, "its header is no JSON") from error
    if not isinstance(table, dict):
        raise _damaged(file, "its header is no JSON object")
    table.pop("__metadata__", None)
    begin = 8 + len(text)
    places = {name: _place(file, name, entry, begin) for name, entry in table.items()}
    _check_cover(file, places, begin, begin + data_bytes)
    return places


class _Doubled(ValueError):
    """A name stands twice in one JSON object."""


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Doubled(repr(name[:200]))
            seen.add(name)
    return made


def _damaged(file: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{file}: {why}; it is damaged or cut short, download it again")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _place(file: Path, name: str, entry: object, begin: int) -> Place:
    def wrong(why: str) -> CheckpointError:
        return _damaged(file, f"tensor {name[:200]!r} {why}")

    if not isinstance(entry, Mapping):
        raise wrong("has no description")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        known = ", ".join(DTYPE_BYTES)
        raise CheckpointError(
            f"{file}: tensor {name[:200]!r} has dtype {str(dtype)[:40]!r}; readable are {known}; "
            "use the model's plain bf16, fp16 or fp32 files"
        )
    if not isinstance(shape, list) or not all(_is_count(side) for side in shape):
        raise wrong("has a shape that is no list of sizes")
    if len(shape) > MOST_DIMENSIONS:
        raise wrong(f"has {len(shape)} dimensions; {MOST_DIMENSIONS} is most")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise wrong("has data_offsets that are no [first, last)")
    first, last = offsets
    needed = math.prod(shape) * DTYPE_BYTES[dtype]
    if last - first != needed:
        raise wrong(f"of {dtype} {shape} needs {needed} bytes, its offsets hold {last - first}")
    return Place(file, dtype, tuple(shape), begin + first, begin + last)


def _check_cover(file: Path, places: Mapping[str, Place], begin: int, end: int) -> None:
    """The places must lie end to end from `begin` to `end`: no hole, no overlap."""
    reached = begin
    for name, place in sorted(places.items(), key=lambda item: (item[1].first, item[1].last)):
        if place.last > end:
            raise _damaged(
                file, f"tensor {name[:200]!r} ends at byte {place.last}, the file at {end}"
            )
        if place.first < reached:
            raise _damaged(file, f"tensor {name[:200]!r} overlaps the one before it")
        if place.first > reached:
            raise _damaged(file, f"there is a hole before tensor {name[:200]!r}")
        reached = place.last
    if reached < end:
        raise _damaged(file, f"its tensors end at byte {reached}, the file at {end}")
