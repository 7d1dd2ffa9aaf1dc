"""What of a whole model folder can be given to others: its files as pieces, hashed when asked for.

Knows nothing of peers. What was hashed is kept in a file, so that it is done once a folder.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from manyhands.domain.ids import ModelId
from manyhands.domain.manifest import (
    FileEntry,
    Manifest,
    PieceRun,
    PieceTable,
    may_be_named,
    piece_bytes_for,
)
from manyhands.errors import CheckpointError
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.fetched import read_range
from manyhands.store.hub import origin_of
from manyhands.store.safetensors_header import header_bytes
from manyhands.store.small_files import small_files
from manyhands.store.weight_files import INDEX, SINGLE

HASHED_AT_A_TIME = 1 << 26
"""So many bytes are hashed between two looks at what else the disk is asked for."""


class Shelf(Protocol):
    """Pieces of one model that can be given; called on the disk's thread, but for `model`."""

    @property
    def model(self) -> ModelId:
        """Whose pieces they are."""

    @property
    def origin(self) -> str:
        """Where at the hub the files are; see `hub.origin_of`."""

    def prepare(self) -> bool:
        """Do some of the hashing that is due; True once `manifest` may be asked for."""

    @property
    def manifest(self) -> Manifest:
        """The model's manifest."""

    def runs(self) -> tuple[PieceRun, ...]:
        """The pieces that are here."""

    def read(self, number: int, first: int, last: int) -> bytes:
        """Bytes [first, last) of a piece. Raises CheckpointError when they are not here."""


class WholeFolder:
    """A folder with all of a model's files. Nothing is read before `prepare`."""

    def __init__(self, checkpoint: Checkpoint, model: ModelId, piece_bytes: int = 0) -> None:
        self.model, self.origin = model, origin_of(checkpoint.folder)
        self._folder = checkpoint.folder
        self._weights = checkpoint.weight_files()
        self._piece_bytes = piece_bytes
        self._due: list[tuple[str, int, int]] | None = None  # name, size, bytes of head
        self._hashed: list[FileEntry] = []
        self._digests: list[str] = []  # of the file that is being hashed
        self._table: PieceTable | None = None

    def prepare(self) -> bool:
        """Hash some more; see Shelf. Raises CheckpointError for files that cannot be read."""
        if self._table is not None:
            return True
        if self._due is None:
            self._due = self._files()
            total = sum(size for _, size, _ in self._due)
            self._piece_bytes = self._piece_bytes or piece_bytes_for(total)
        left = HASHED_AT_A_TIME
        while self._due and left > 0:
            left -= self._hash_some(left)
        if self._due:
            return False
        try:
            manifest = Manifest(self.model, self._piece_bytes, tuple(self._hashed))
        except ValueError as error:  # names that others could not write, say
            raise CheckpointError(f"{self._folder} cannot be given to others: {error}") from error
        self._table = PieceTable(manifest)
        return True

    @property
    def manifest(self) -> Manifest:
        """The model's manifest. Raises CheckpointError before `prepare` has said True."""
        return self._ready().manifest

    def runs(self) -> tuple[PieceRun, ...]:
        """All pieces."""
        return (PieceRun(0, len(self._ready())),)

    def read(self, number: int, first: int, last: int) -> bytes:
        """Bytes [first, last) of a piece; see Shelf."""
        table = self._ready()
        if not 0 <= number < len(table):
            raise CheckpointError(f"there are no bytes of piece {number} of {len(table)}")
        return read_range(self._folder, table[number], first, last)

    def _ready(self) -> PieceTable:
        if self._table is None:
            raise CheckpointError(f"the files of {self._folder} are not hashed yet; ask later")
        return self._table

    def _files(self) -> list[tuple[str, int, int]]:
        """The files to give, those that say what the model is before the weights."""
        try:
            small = [name for name in small_files(self._folder) if may_be_named(name)]
            if (self._folder / INDEX).exists() and SINGLE not in {w.name for w in self._weights}:
                small.append(INDEX)
            sizes = ((name, (self._folder / name).stat().st_size) for name in small)
            found = [(name, size, size) for name, size in sizes]
            found += [
                (file.name, file.stat().st_size, header_bytes(file)) for file in self._weights
            ]
        except OSError as error:
            raise CheckpointError(f"{self._folder} cannot be read: {error}") from error
        return found

    def _hash_some(self, most_bytes: int) -> int:
        """Of the first file that is due at most so many bytes, a piece at least; how many."""
        due = self._due or []
        name, size, head = due[0]
        done = 0
        try:
            with (self._folder / name).open("rb", buffering=0) as stream:
                stream.seek(len(self._digests) * self._piece_bytes)
                while done < most_bytes and len(self._digests) * self._piece_bytes < size:
                    data = stream.read(self._piece_bytes)
                    self._digests.append(hashlib.sha256(data).hexdigest())
                    done += max(1, len(data))
        except OSError as error:
            raise CheckpointError(f"{self._folder / name} cannot be read: {error}") from error
        if len(self._digests) * self._piece_bytes >= size:
            try:
                self._hashed.append(FileEntry(name, size, head, tuple(self._digests)))
            except ValueError as error:
                raise CheckpointError(f"{name} cannot be given to others: {error}") from error
            self._digests = []
            due.pop(0)
        return max(1, done)
