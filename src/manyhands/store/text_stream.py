"""Turns tokens into text as they come: whole characters only, joined the same as all at once.

Knows nothing of models or sessions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

Decode = Callable[[Sequence[int]], str]

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class TextStream:
    """Feed token ids, get text; `finish` gives what was held back.

    A piece is held back while its last token may still change it: while it ends in half a
    character, or in byte tokens (`<0x0A>`), whose run decodes only as a whole.
    `decode` must skip the ids for which `token_of` gives None (special or unknown tokens).
    """

    def __init__(self, decode: Decode, token_of: Callable[[int], str | None]) -> None:
        self._decode = decode
        self._token_of = token_of
        self._all: list[int] = []
        self._context = 0
        """Tokens from here on are decoded together: those just said, for the spaces between."""
        self._said = 0
        """Tokens before this have become text."""
        self._length = 0
        """Characters given out so far."""

    def feed(self, ids: Iterable[int]) -> str:
        """The text these tokens complete; often "" for part of a character."""
        return "".join(self._feed_one(token_id) for token_id in ids)

    def _feed_one(self, token_id: int) -> str:
        token = self._token_of(token_id)
        if token is None:
            return ""
        self._all.append(token_id)
        if _BYTE_TOKEN.fullmatch(token):
            return ""
        before = self._decode(self._all[self._context : self._said])
        now = self._decode(self._all[self._context :])
        if now.endswith(_UNFINISHED) or not now.startswith(before) or len(now) == len(before):
            return ""
        self._context, self._said = self._said, len(self._all)
        self._length += len(now) - len(before)
        return now[len(before) :]

    def finish(self) -> str:
        """What is left, half characters as U+FFFD; the stream can not be fed afterwards."""
        rest = self._decode(self._all)[self._length :]
        self._length += len(rest)
        return rest
