"""A model folder that is fetched piece by piece: which pieces are had, each verified as it is kept.

The files have their full size and holes where nothing was fetched yet; beside them lies a record of
what was. Knows nothing of peers, nor what is in the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import filelock
import msgspec

from manyhands.domain.ids import ModelId
from manyhands.domain.manifest import Manifest, Piece, PieceRun, PieceTable, runs_of
from manyhands.errors import CheckpointError, ResourceError
from manyhands.store.hub import is_origin

RECORD = ".pieces"
"""The folder of the record: the manifest, numbers of pieces as they came, and how all was left."""

MOST_MANIFEST_BYTES = 1 << 26
_NUMBER_BYTES = 4

Bytes = bytes | bytearray | memoryview


class FetchedFolder:
    """`had` are the numbers of the pieces that are here and verified. One thread at a time."""

    def __init__(self, folder: Path, manifest: Manifest, had: set[int]) -> None:
        self.folder, self.manifest, self.had = folder, manifest, had
        self.table = PieceTable(manifest)
        self._touched: set[str] = set()  # files written to and not yet forced to the disk
        self._lock = filelock.FileLock(folder / RECORD / "lock")

    @classmethod
    def open(cls, folder: Path) -> FetchedFolder | None:
        """What was fetched into `folder`; None for a folder that was not fetched.

        After a clean end the record is believed, else every piece is hashed again. Raises
        CheckpointError for a record that cannot be read.
        """
        file = folder / RECORD / "manifest.json"
        if not file.exists():
            return None
        try:
            if file.stat().st_size > MOST_MANIFEST_BYTES:
                raise CheckpointError(f"{file} is too large for a manifest; remove {folder}")
            manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise CheckpointError(
                f"{file} cannot be read ({error}); remove {folder} and fetch the model again"
            ) from error
        opened = cls(folder, manifest, set())
        opened.refresh()
        return opened

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, origin: str = "") -> FetchedFolder:
        """A folder with all files, all of them holes. Raises ResourceError."""
        try:
            (folder / RECORD).mkdir(parents=True, exist_ok=True)
            for entry in manifest.files:
                file = folder / entry.name
                file.parent.mkdir(exist_ok=True)
                with file.open("ab") as stream:
                    stream.truncate(entry.size_bytes)
            (folder / RECORD / "origin").write_text(origin, encoding="utf-8")
            _write_whole(folder / RECORD / "manifest.json", msgspec.json.encode(manifest))
        except OSError as error:
            raise _unwritable(folder, error) from error
        return cls(folder, manifest, set())

    @property
    def model(self) -> ModelId:
        """Whose pieces they are."""
        return self.manifest.model

    @property
    def origin(self) -> str:
        """Where at the hub the files are, as those said who gave the manifest; "" for nowhere."""
        try:
            text = (self.folder / RECORD / "origin").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""
        return text if is_origin(text) else ""

    def prepare(self) -> bool:
        """Nothing is left to hash; see Shelf."""
        return True

    @property
    def is_whole(self) -> bool:
        """True when nothing is missing."""
        return len(self.had) == len(self.table)

    def holds(self, name: str, first: int, last: int) -> bool:
        """True when bytes [first, last) of a file are here."""
        try:
            return self.had.issuperset(self.table.covering(name, first, last))
        except KeyError:
            return False

    def runs(self) -> tuple[PieceRun, ...]:
        """The pieces that are here."""
        return runs_of(self.had)

    def check_room(self, numbers: Iterable[int], budget_bytes: int) -> None:
        """Raise ResourceError unless these pieces fit on the disk and in the budget.

        The budget is for all folders beside this one together; 0 is none.
        """
        need = self.table.size_bytes(set(numbers) - self.had)
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise ResourceError(
                f"{self.folder} needs {need / 1e6:,.1f} MB more and its disk has {free / 1e6:,.1f} "
                "MB free; free some, or hold fewer layers with --span"
            )
        taken = sum(map(_taken_bytes, self.folder.parent.rglob("*"))) if budget_bytes else 0
        if budget_bytes and taken + need > budget_bytes:
            raise ResourceError(
                f"{self.folder} needs {need / 1e6:,.1f} MB more; {self.folder.parent} takes "
                f"{taken / 1e6:,.1f} MB of the {budget_bytes / 1e6:,.1f} MB it may (fetched_bytes, "
                "--disk); remove a model there, allow more, or hold fewer layers with --span"
            )

    def try_lock(self) -> bool:
        """Be the only process that writes here, until `release`; False while another one does."""
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.refresh()  # another process may have fetched more
        self._begin()
        return True

    def release(self) -> None:
        """End what `try_lock` began; what was written is forced to the disk first."""
        try:
            while self._touched:
                with (self.folder / self._touched.pop()).open("r+b") as stream:
                    os.fsync(stream.fileno())
            left = json.dumps({"files": self._stamps(), "pieces": len(self.had)})
            (self.folder / RECORD / "left.json").write_text(left, encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        finally:
            self._lock.release()

    def write(self, number: int, blocks: Sequence[Bytes]) -> bool:
        """Keep a piece if it is what the manifest says; False, and nothing written, if it is not.

        Raises ResourceError when the disk does not take it.
        """
        piece = self.table[number]
        if not is_piece(piece, blocks):
            return False
        try:
            with (self.folder / piece.file).open("r+b", buffering=0) as stream:
                stream.seek(piece.first)
                for block in blocks:
                    _write_all(stream.fileno(), block)
            # only now: a process that is killed in between fetches the piece once more
            with (self.folder / RECORD / "had").open("ab", buffering=0) as stream:
                stream.write(number.to_bytes(_NUMBER_BYTES, "big"))
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self._touched.add(piece.file)
        self.had.add(number)
        return True

    def read(self, number: int, first: int, last: int) -> bytes:
        """Bytes [first, last) of a piece. Raises CheckpointError when they are not here."""
        if number not in self.had:
            raise CheckpointError(f"piece {number} of {self.folder} is not here")
        return read_range(self.folder, self.table[number], first, last)

    def refresh(self) -> None:
        """Read the record again, pieces that other processes fetched with it."""
        numbers = self._recorded()
        if numbers and not self._is_as_left(len(numbers)):
            numbers = {number for number in numbers if self._is_whole(number)}
        self.had |= numbers

    def _recorded(self) -> set[int]:
        try:
            data = (self.folder / RECORD / "had").read_bytes()
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise CheckpointError(f"{self.folder}: the record cannot be read: {error}") from error
        whole = len(data) - len(data) % _NUMBER_BYTES  # a last number may be cut short
        found = {
            int.from_bytes(data[at : at + _NUMBER_BYTES], "big")
            for at in range(0, whole, _NUMBER_BYTES)
        }
        return {number for number in found if number < len(self.table)}

    def _begin(self) -> None:
        """The record without what did not hold, and not as it was left until `release`."""
        try:
            (self.folder / RECORD / "left.json").unlink(missing_ok=True)
            if self._recorded() != self.had:
                data = b"".join(n.to_bytes(_NUMBER_BYTES, "big") for n in sorted(self.had))
                _write_whole(self.folder / RECORD / "had", data)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _is_as_left(self, pieces: int) -> bool:
        """True when nobody has touched a file since it was verified and forced to the disk."""
        try:
            left = json.loads((self.folder / RECORD / "left.json").read_bytes())
            return bool(left == {"files": self._stamps(), "pieces": pieces})
        except (OSError, ValueError):
            return False

    def _stamps(self) -> dict[str, list[int]]:
        told = {file.name: (self.folder / file.name).stat() for file in self.manifest.files}
        return {name: [one.st_mtime_ns, one.st_size, one.st_ino] for name, one in told.items()}

    def _is_whole(self, number: int) -> bool:
        piece = self.table[number]
        with contextlib.suppress(CheckpointError):
            return is_piece(piece, [read_range(self.folder, piece, 0, piece.size_bytes)])
        return False


def is_piece(piece: Piece, blocks: Sequence[Bytes]) -> bool:
    """True when `blocks`, one behind the other, are what the piece's SHA-256 says."""
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return sum(map(len, blocks)) == piece.size_bytes and found.hexdigest() == piece.sha256


def read_range(folder: Path, piece: Piece, first: int, last: int) -> bytes:
    """Bytes [first, last) of a piece as they lie in `folder`. Raises CheckpointError."""
    file = folder / piece.file
    if not 0 <= first < last <= piece.size_bytes:
        raise CheckpointError(f"there are no bytes [{first}, {last}) of piece {piece.number}")
    try:
        with file.open("rb", buffering=0) as stream:
            stream.seek(piece.first + first)
            data = stream.read(last - first)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) < last - first:
        raise CheckpointError(f"{file} ends too early; has it been changed?")
    return data


def _write_all(descriptor: int, block: Bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_whole(file: Path, data: bytes) -> None:
    half = file.with_name(f"{file.name}.new")
    with half.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    half.replace(file)


def _taken_bytes(file: Path) -> int:
    try:
        told = file.lstat()
    except OSError:
        return 0
    return int(getattr(told, "st_blocks", -(-told.st_size // 512))) * 512


def _unwritable(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"{folder} cannot be written ({error.strerror}); is the disk full? free some, or name "
        "another home folder with MANYHANDS_HOME"
    )
