"""A person's own folder on this machine: keys, the swarm founded here, memberships of others.

Secrets are files that nobody else may read. A key is used by one running process at a time, so a
second process on the machine is another peer. Knows no sockets.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import msgspec
import platformdirs

from manyhands.domain.admission import Contact
from manyhands.errors import ManyhandsError, ResourceError, UserError
from manyhands.trust.certificate import Authority, Membership, found
from manyhands.trust.signature import SEED_BYTES, KeyPair

FOLDER_VARIABLE = "MANYHANDS_HOME"
MOST_PEERS = 64
"""So many processes of one person may be peers on one machine."""

FOUNDING_DEADLINE_S = 10.0
"""Another process that founds the swarm of this folder is waited for so long."""

AUTHORITY_LIFE_S = 20 * 365 * 86400.0
MOST_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Joined:
    """A swarm that let us in: what we show there, its door, and whom to dial."""

    certificate: str
    authority: str
    door: str
    contacts: tuple[Contact, ...]


class Home:
    """`folder` is made when it is first needed. Close it, so that its key is free again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: list[filelock.FileLock] = []

    @classmethod
    def standard(cls) -> Home:
        """$MANYHANDS_HOME, or where this system keeps a program's data."""
        named = os.environ.get(FOLDER_VARIABLE)
        return cls(Path(named) if named else Path(platformdirs.user_data_dir("manyhands")))

    def close(self) -> None:
        """Let other processes use our key."""
        for lock in self._locks:
            lock.release()
        self._locks.clear()

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keys(self) -> KeyPair:
        """The first key of this machine that no running process uses; made when there is none.

        Raises ResourceError when the folder cannot be written, UserError for too many processes.
        """
        folder = self._made("keys")
        for number in range(1, MOST_PEERS + 1):
            lock = filelock.FileLock(folder / f"peer-{number}.lock")
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                continue
            except OSError as error:
                raise self._unwritable(error) from error
            self._locks.append(lock)
            return self._key(folder / f"peer-{number}.key")
        raise UserError(
            f"{MOST_PEERS} processes of {self.folder} are running; end some, or name another "
            f"folder with {FOLDER_VARIABLE}"
        )

    @property
    def models(self) -> Path:
        """Where models lie that were fetched from others."""
        return self._made("models")

    def authority(self, now_s: float) -> Authority:
        """The CA of the swarm founded here; founded now when there is none."""
        folder = self._made("swarm")
        file = folder / "authority.pem"
        try:
            # two processes at once would found two swarms and keep a half of each
            with filelock.FileLock(folder / "authority.lock", timeout=FOUNDING_DEADLINE_S):
                is_new = not (folder / "authority.key").exists() or not file.exists()
                keys = self._key(folder / "authority.key")
                if is_new:
                    made = found(keys, now_s, AUTHORITY_LIFE_S, new_serial())
                    self._write(file, made.certificate_pem)
        except filelock.Timeout as error:
            raise ResourceError(
                f"another process holds {folder} for more than {FOUNDING_DEADLINE_S:.0f} s; end it"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error
        return Authority(keys, self._read(file))

    def remember(self, keys: KeyPair, joined: Joined) -> None:
        """Keep what a swarm gave us, so that we need no invite the next time."""
        self._write(self._joined_file(keys, joined.door), msgspec.json.encode(joined))

    def membership(self, keys: KeyPair, door: str) -> Joined | None:
        """What the swarm of that door gave us, if anything. Raises UserError for a damaged file."""
        file = self._joined_file(keys, door)
        if not file.exists():
            return None
        try:
            return msgspec.json.decode(self._read(file), type=Joined)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UserError(
                f"{file} is damaged ({error}); delete it and ask for an invite"
            ) from None

    def membership_in(self, keys: KeyPair, swarm: str) -> Joined | None:
        """What a swarm gave us at any of its doors, the latest; its address may be another now."""
        for joined in self.memberships(f"{keys.peer[:16]}-"):
            with contextlib.suppress(UserError):
                if membership_of(keys, joined).swarm == swarm:
                    return joined
        return None

    def memberships(self, prefix: str = "") -> tuple[Joined, ...]:
        """All that was given to the keys of this folder, the latest first; damaged files not."""
        kept = []
        for file in sorted((self.folder / "joined").glob(f"{prefix}*.json"), key=_age_s):
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, ManyhandsError):
                kept.append(msgspec.json.decode(self._read(file), type=Joined))
        return tuple(kept)

    def write_running(self, name: str, value: dict[str, Any]) -> Path:
        """Say that this process serves `name`; other commands find it by that."""
        file = self._made("running") / f"{name}.json"
        self._write(file, json.dumps(value).encode())
        return file

    def running(self) -> list[dict[str, Any]]:
        """What the processes here say they serve, dead ones' notes perhaps among them."""
        found_here = []
        for file in sorted((self.folder / "running").glob("*.json")):
            with contextlib.suppress(ManyhandsError, ValueError):
                found_here.append(json.loads(self._read(file)))
        return [note for note in found_here if isinstance(note, dict)]

    def _joined_file(self, keys: KeyPair, door: str) -> Path:
        # a digest: names of hosts may be longer than files', and differ in more than small letters
        name = hashlib.sha256(door.encode()).hexdigest()[:32]
        return self._made("joined") / f"{keys.peer[:16]}-{name}.json"

    def _key(self, file: Path) -> KeyPair:
        if not file.exists():
            self._write(file, secrets.token_bytes(SEED_BYTES))
        try:
            return KeyPair.from_seed(self._read(file))
        except UserError as error:
            raise UserError(
                f"{file} is damaged ({error}); delete it, and whatever it was used for is made anew"
            ) from error

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._unwritable(error) from error
        return folder

    def _write(self, file: Path, data: bytes) -> None:
        """All or nothing, readable by this person only."""
        half = file.with_name(f"{file.name}.{os.getpid()}.new")
        try:
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(descriptor)  # a key that was shown to others must outlive a power cut
            half.replace(file)
        except OSError as error:
            raise self._unwritable(error) from error

    def _read(self, file: Path) -> bytes:
        try:
            with file.open("rb") as stream:
                return stream.read(MOST_FILE_BYTES)
        except OSError as error:
            raise ResourceError(f"{file} cannot be read: {error.strerror}") from error

    def _unwritable(self, error: OSError) -> ResourceError:
        return ResourceError(
            f"the folder {self.folder} cannot be written ({error.strerror}); name another one "
            f"with {FOLDER_VARIABLE}"
        )


def _age_s(file: Path) -> float:
    """Of two files the later one first; one that has just gone is the last."""
    try:
        return -file.stat().st_mtime
    except OSError:
        return 0.0


def membership_of(keys: KeyPair, joined: Joined) -> Membership:
    """What a peer shows in a swarm that let it in. Raises UserError when it is another peer's."""
    return Membership(keys, joined.certificate.encode(), joined.authority.encode())


def new_serial() -> int:
    """A certificate's serial number: 20 octets, the first bit unset."""
    return secrets.randbits(159) | 1
