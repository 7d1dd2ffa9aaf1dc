"""Names of peers, models, sessions and tasks; the canonical bytes that are hashed and signed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NewType

PeerId = NewType("PeerId", str)
"""A peer's Ed25519 public key, 64 lower-case hex digits."""

ModelId = NewType("ModelId", str)
"""SHA-256 of a model's spec and of what its weight files hold, 64 hex digits."""

SessionId = NewType("SessionId", str)
"""Chosen at random by the owner, 32 hex digits."""

TaskId = NewType("TaskId", str)
"""SHA-256 of what the task reads, so that the same task has the same name everywhere."""


def short(name: str) -> str:
    """The first eight characters: enough to tell peers or sessions apart in a log line."""
    return name[:8]


MOST_NAME_CHARACTERS = 200
"""Of an address and the like, wherever others are told of it."""


def is_name(text: str) -> bool:
    """True for what may be told to others as an address or the like: short, printable ASCII.

    It may end on a terminal, and whoever is told it refuses all that came with a worse one.
    """
    return len(text) <= MOST_NAME_CHARACTERS and text.isascii() and text.isprintable()


LEAST_DIGITS = 4
"""Of an id, to be meant by them."""


def named(name: str, peers: Iterable[tuple[PeerId, str]]) -> tuple[PeerId, ...]:
    """Of (id, name) those whom a person may mean: by the name, or by how the id begins."""
    known = sorted(peers)
    meant = tuple(peer for peer, called in known if called == name)
    if meant or len(name) < LEAST_DIGITS:
        return meant
    return tuple(peer for peer, _ in known if peer.startswith(name))


def is_hex(text: str, digits: int) -> bool:
    """True when `text` is exactly `digits` lower-case hex digits."""
    return len(text) == digits and not text.strip("0123456789abcdef")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no canonical bytes; only finite numbers do")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # 1.0 == 1, and on the wire one may turn into the other
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"hex": bytes(value).hex()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical bytes")


def canonical_bytes(value: Any) -> bytes:
    """The one byte form of a value: JSON with sorted keys and no spaces.

    Equal values give equal bytes on every machine. Dataclasses carry their class name, so that
    two kinds with the same fields never share bytes.
    Raises TypeError for what is not data, ValueError for NaN and infinities.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()


def digest(purpose: str, value: Any) -> str:
    """SHA-256 in hex of `purpose` and the value's canonical bytes; the purpose keeps uses apart."""
    return hashlib.sha256(purpose.encode() + b"\x00" + canonical_bytes(value)).hexdigest()
