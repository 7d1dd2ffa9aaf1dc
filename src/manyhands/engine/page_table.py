"""Who holds which pages of key/value memory, under one byte budget; shared pages count once.

A page is `PAGE_TOKENS` tokens of one session in every block of its span. All pages that a session
may ever need are given out when it begins, so that none that began is stopped for want of memory.
Knows nothing of arrays: a page is known by whoever holds its numbers, its home.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from manyhands.errors import MemoryFull, ResourceError

PAGE_TOKENS = 64

HomeT = TypeVar("HomeT")


@dataclass(slots=True, eq=False)
class Page(Generic[HomeT]):
    """Tokens [64 n, 64 n + 64) of some text, n being its `number`; `users` sessions read it."""

    home: HomeT
    number: int
    size_bytes: int
    users: int = 1


def pages_of(tokens: int) -> int:
    """Pages that so many tokens take."""
    return -(-tokens // PAGE_TOKENS)


class PageTable(Generic[HomeT]):
    """Counts. A method that raises has changed nothing."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes, self._used_bytes = budget_bytes, 0

    @property
    def budget_bytes(self) -> int:
        """Bytes of all pages together, given out or not."""
        return self._budget_bytes

    def room(self) -> int:
        """Bytes still free."""
        return self._budget_bytes - self._used_bytes

    def give(
        self, tokens: int, page_bytes: int, home: HomeT, shared: Sequence[Page[HomeT]] = ()
    ) -> list[Page[HomeT]]:
        """Pages for `tokens` tokens: the `shared` ones first, then new ones at `home`.

        Raises MemoryFull when there is no room now, ResourceError when there never is.
        """
        self.check(tokens, page_bytes, len(shared))
        count = pages_of(tokens)
        for page in shared:
            page.users += 1
        fresh = [Page(home, number, page_bytes) for number in range(len(shared), count)]
        self._used_bytes += page_bytes * len(fresh)
        return [*shared, *fresh]

    def take_back(self, pages: Iterable[Page[HomeT]]) -> list[Page[HomeT]]:
        """A session needs these no more; those that nobody else reads are free and are returned."""
        free: list[Page[HomeT]] = []
        for page in pages:
            page.users -= 1
            if page.users == 0:
                self._used_bytes -= page.size_bytes
                free.append(page)
        return free

    def check(self, tokens: int, page_bytes: int, shared: int = 0) -> None:
        """Raise what `give` would raise, were `shared` of the pages there already."""
        needed = pages_of(tokens) * page_bytes
        if needed - shared * page_bytes <= self.room():
            return
        of_these = f"{tokens} tokens take {needed} bytes of key/value memory"
        if needed > self._budget_bytes:
            fitting = self._budget_bytes // page_bytes * PAGE_TOKENS
            raise ResourceError(
                f"{of_these}, this peer gives {self._budget_bytes}: {fitting} tokens would fit; "
                "ask for fewer, or raise kv_bytes (Settings(kv_bytes=…))"
            )
        raise MemoryFull(
            f"{of_these}, {self.room()} of {self._budget_bytes} are free until other sessions end; "
            "ask again, ask for fewer tokens, or raise kv_bytes (Settings(kv_bytes=…))"
        )
