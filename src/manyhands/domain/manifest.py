"""A model's files as numbered pieces, each known by its SHA-256: what two disks can agree on.

The pieces of all files are numbered in one row. Knows nothing of disks, peers, or what is in a
file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NewType

from manyhands.domain.ids import ModelId, digest, is_hex

ManifestId = NewType("ManifestId", str)
"""SHA-256 of a manifest's canonical bytes, 64 hex digits."""

LEAST_PIECE_BYTES, MOST_PIECE_BYTES = 1 << 12, 1 << 22
LARGE_MODEL_BYTES = 1 << 34

BLOCK_BYTES = 1 << 18
"""A piece travels in blocks of so much: 256 KiB hold up nothing else for longer than 0.3 ms."""

MOST_FILE_BYTES = 1 << 50
MOST_FILES = 1 << 14

_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
ENDINGS = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Files with other endings are never given away, nor taken from others."""


def may_be_named(name: str) -> bool:
    """True for a file of a model's folder or of one below it, of a kind that models are made of."""
    return _NAME.fullmatch(name) is not None and name.endswith(ENDINGS) and ".." not in name


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file. Its first `head_bytes` say what is in it: of small files all, else the header.

    Raises ValueError for what is no such file.
    """

    name: str
    size_bytes: int
    head_bytes: int
    pieces: tuple[str, ...]

    def __post_init__(self) -> None:
        if not may_be_named(self.name):
            raise ValueError(f"{self.name[:200]!r} is no name of a model's file")
        if not 0 <= self.head_bytes <= self.size_bytes <= MOST_FILE_BYTES:
            raise ValueError(f"{self.name} with {self.size_bytes} bytes, {self.head_bytes} of head")
        if not all(is_hex(piece, 64) for piece in self.pieces):
            raise ValueError(f"a piece of {self.name} has no SHA-256 of 64 hex digits")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [first, last) of a file and their SHA-256."""

    number: int
    file: str
    first: int
    last: int
    sha256: str

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class PieceRun:
    """Pieces [first, last). Raises ValueError for an empty run."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last:
            raise ValueError(f"a run of pieces from {self.first} to {self.last}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a model, each cut at multiples of `piece_bytes`; its name is its `digest`.

    Raises ValueError for pieces that do not cover their files, and for a file named twice.
    """

    model: ModelId
    piece_bytes: int
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        size = self.piece_bytes
        if not LEAST_PIECE_BYTES <= size <= MOST_PIECE_BYTES or size & (size - 1):
            raise ValueError(
                f"pieces of {size} bytes; a power of two in [{LEAST_PIECE_BYTES}, "
                f"{MOST_PIECE_BYTES}] is due"
            )
        if not 0 < len(self.files) <= MOST_FILES:
            raise ValueError(f"{len(self.files)} files; 1 to {MOST_FILES} are due")
        if len({file.name.casefold() for file in self.files}) < len(self.files):
            raise ValueError("a file is named twice")
        for file in self.files:
            if len(file.pieces) != -(-file.size_bytes // size):
                raise ValueError(
                    f"{file.name} of {file.size_bytes} bytes in {len(file.pieces)} pieces of {size}"
                )

    def digest(self) -> ManifestId:
        """The manifest's name. Takes a second for the largest models: not for an event loop."""
        return ManifestId(digest("manifest", self))


class PieceTable:
    """Where in the row a manifest's pieces stand."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        counts = [len(file.pieces) for file in manifest.files]
        self._firsts = [0, *accumulate(counts)]
        self._at = {file.name: place for place, file in enumerate(manifest.files)}

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, number: int) -> Piece:
        """The piece with this number. Raises IndexError when there is none."""
        if not 0 <= number < len(self):
            raise IndexError(f"piece {number} of {len(self)}")
        place = bisect_right(self._firsts, number) - 1
        file, within = self.manifest.files[place], number - self._firsts[place]
        first = within * self.manifest.piece_bytes
        last = min(first + self.manifest.piece_bytes, file.size_bytes)
        return Piece(number, file.name, first, last, file.pieces[within])

    def covering(self, name: str, first: int, last: int) -> range:
        """The pieces that hold bytes [first, last) of a file. Raises KeyError when unknown."""
        before, size = self._firsts[self._at[name]], self.manifest.piece_bytes
        return (
            range(before + first // size, before + -(-last // size)) if last > first else range(0)
        )

    def of_ranges(self, ranges: Mapping[str, Iterable[tuple[int, int]]]) -> frozenset[int]:
        """The pieces that hold any of these bytes. Raises KeyError for an unknown file."""
        return frozenset(
            number
            for name, cuts in ranges.items()
            for first, last in cuts
            for number in self.covering(name, first, last)
        )

    def heads(self) -> frozenset[int]:
        """The pieces that say what the model is: small files, and the headers of large ones."""
        return self.of_ranges(
            {file.name: [(0, file.head_bytes)] for file in self.manifest.files if file.pieces}
        )

    def size_bytes(self, numbers: Iterable[int]) -> int:
        """How many bytes these pieces have together."""
        return sum(self[number].size_bytes for number in numbers)


def runs_of(numbers: Iterable[int]) -> tuple[PieceRun, ...]:
    """These pieces as runs, in order."""
    runs: list[PieceRun] = []
    first = last = -1
    for number in sorted(numbers):
        if number != last:
            if last > first:
                runs.append(PieceRun(first, last))
            first = number
        last = number + 1
    return (*runs, PieceRun(first, last)) if last > first else tuple(runs)


def pieces_in(runs: Iterable[PieceRun], most: int) -> Iterator[int]:
    """The pieces of runs in order, each once, none of them `most` or above."""
    reached = 0
    for run in runs:
        yield from range(max(run.first, reached), min(run.last, most))
        reached = max(reached, run.last)


def piece_bytes_for(size_bytes: int) -> int:
    """How long the pieces of a model of this size are: 1 MiB, of a large one 4 MiB."""
    return MOST_PIECE_BYTES if size_bytes > LARGE_MODEL_BYTES else 1 << 20
