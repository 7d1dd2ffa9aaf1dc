"""Pages are writable zeros, and a system that has none says so by MemoryError."""

import pytest

from manyhands.engine.pages import fresh_pages


def test_pages_are_zeros_that_can_be_written():
    pages = fresh_pages(100_000)
    assert bytes(pages) == bytes(100_000)
    pages[99_999] = 7
    assert pages[99_999] == 7


def test_more_than_the_system_has_is_a_memory_error():
    with pytest.raises(MemoryError, match="gave no"):
        fresh_pages(2**60)
