"""How a page becomes its owner's: a pass, good once and for minutes, is changed for a key.

The pass may stay in a browser's history; the key is never in an address, and ends with the server.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable

from manyhands.errors import UserError

LIFE_S = 300.0
MOST = 32
"""Passes, and keys: the oldest ends where there are more."""


class Passes:
    """`clock` gives seconds that only grow, `secret` a new text that nobody guesses."""

    def __init__(self, clock: Callable[[], float], secret: Callable[[], str]) -> None:
        self._clock, self._secret = clock, secret
        self._passes: deque[tuple[bytes, float]] = deque(maxlen=MOST)
        self._keys: deque[bytes] = deque(maxlen=MOST)

    def made(self) -> str:
        """A pass, from now on good for LIFE_S."""
        text = self._secret()
        self._passes.append((_digest(text), self._clock() + LIFE_S))
        return text

    def key(self, text: str) -> str:
        """The key for a pass, which this uses up. Raises UserError for one that is no good."""
        shown, now_s = _digest(text), self._clock()
        kept = [one for one in self._passes if one[0] != shown and one[1] > now_s]
        is_good = any(digest == shown and until_s > now_s for digest, until_s in self._passes)
        self._passes = deque(kept, MOST)
        if not is_good:
            raise UserError(
                "this link to the page was used already, or is older than "
                f"{LIFE_S / 60:.0f} minutes; type `hands page` for another one"
            )
        key = self._secret()
        self._keys.append(_digest(key))
        return key

    def is_key(self, text: str) -> bool:
        """True for a key that was given out."""
        return _digest(text) in self._keys


def _digest(text: str) -> bytes:
    """Compared instead of the text: how long that takes tells nothing of it."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
