"""Reads streams of events as bytes, without any client's help, for tests of api/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Said:
    """One block of a stream: an event with JSON, a comment, or the mark of the end."""

    name: str = ""
    value: Any = None
    comment: str = ""
    is_done: bool = False


def blocks(lines: Iterable[str]) -> Iterator[Said]:
    """The blocks of a stream's lines."""
    name = ""
    for line in lines:
        if line.startswith(": "):
            yield Said(comment=line[2:])
        elif line.startswith("event: "):
            name = line[7:]
        elif line == "data: [DONE]":
            yield Said(is_done=True)
        elif line.startswith("data: "):
            yield Said(name, json.loads(line[6:]))
        else:
            assert line == "", line
            name = ""
