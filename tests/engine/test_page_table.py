"""Pages are given out whole, counted once, and free when nobody reads them any more."""

from __future__ import annotations

import pytest

from manyhands.engine.page_table import PAGE_TOKENS, PageTable, pages_of
from manyhands.errors import MemoryFull, ResourceError, from_code


def test_a_page_begun_is_a_page():
    assert [pages_of(tokens) for tokens in (0, 1, PAGE_TOKENS, PAGE_TOKENS + 1)] == [0, 1, 1, 2]


def test_a_shared_page_counts_once_and_is_free_after_its_last_reader():
    table: PageTable[str] = PageTable(100)
    first = table.give(2 * PAGE_TOKENS, 10, "a")
    second = table.give(3 * PAGE_TOKENS, 10, "b", first)
    assert [(page.home, page.number, page.users) for page in second] == [
        ("a", 0, 2),
        ("a", 1, 2),
        ("b", 2, 1),
    ]
    assert table.room() == 70
    assert table.take_back(first) == []
    assert table.room() == 70
    assert table.take_back(second) == second
    assert table.room() == 100


def test_what_never_fits_is_told_from_what_does_not_fit_now_and_nothing_is_taken():
    table: PageTable[str] = PageTable(35)
    with pytest.raises(ResourceError, match=f"{3 * PAGE_TOKENS} tokens would fit") as never:
        table.give(4 * PAGE_TOKENS, 10, "a")
    assert never.value.code == "resource"
    held = table.give(2 * PAGE_TOKENS, 10, "a")
    with pytest.raises(MemoryFull, match="15 of 35 are free"):
        table.give(2 * PAGE_TOKENS, 10, "b")
    assert [page.users for page in held] == [1, 1]
    assert table.room() == 15
    table.give(3 * PAGE_TOKENS, 10, "b", held)  # with what it shares, it fits
    assert table.room() == 5


def test_that_memory_is_full_crosses_the_wire_as_such():
    assert isinstance(from_code("memory_full", "full"), MemoryFull)
