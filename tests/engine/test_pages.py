"""Ranges are zeros that exist where they were written, that others can see, and that go back."""

from __future__ import annotations

import pytest

from engine_cases import shared_bytes
from manyhands.engine.pages import PAGESIZE, Range

MB = 2**20

linux = pytest.mark.skipif(not Range(1).can_be_shown, reason="files in memory are Linux's")


def test_a_range_is_zeros_that_can_be_written():
    made = Range(100_000)
    assert bytes(made.buffer) == bytes(100_000)
    made.buffer[99_999] = 7
    assert made.buffer[99_999] == 7


def test_more_than_the_system_has_is_a_memory_error():
    with pytest.raises(MemoryError, match="gave no"):
        Range(2**60)


@linux
def test_only_what_is_written_takes_memory_and_what_is_dropped_goes_back_at_once():
    before = shared_bytes()
    made = Range(2**36)
    assert shared_bytes() - before < 4 * MB
    made.buffer[: 64 * MB] = b"x" * (64 * MB)
    assert shared_bytes() - before > 60 * MB
    made.drop(MB, 64 * MB)
    assert shared_bytes() - before < 8 * MB
    assert made.buffer[MB - 1] == ord("x")
    assert made.buffer[MB] == 0


@linux
def test_a_range_shows_whole_pages_of_another_until_it_writes_there():
    one, two = Range(8 * PAGESIZE), Range(8 * PAGESIZE)
    one.buffer[:] = b"1" * len(one.buffer)
    two.buffer[:] = b"2" * len(two.buffer)
    assert two.show(one, 10, 3 * PAGESIZE + 10) == (PAGESIZE, 3 * PAGESIZE)
    assert bytes(two.buffer) == b"2" * PAGESIZE + b"1" * 2 * PAGESIZE + b"2" * 5 * PAGESIZE
    two.buffer[PAGESIZE] = ord("x")
    assert one.buffer[PAGESIZE] == ord("1")
    del one  # what is shown lives on
    assert bytes(two.buffer[PAGESIZE + 1 : 3 * PAGESIZE]) == b"1" * (2 * PAGESIZE - 1)


@linux
def test_what_is_shown_takes_no_memory_of_its_own():
    one, two = Range(64 * MB), Range(64 * MB)
    one.buffer[:] = b"1" * len(one.buffer)
    before = shared_bytes()
    two.show(one, 0, 64 * MB)
    assert shared_bytes() - before < 4 * MB
    assert two.buffer[63 * MB] == ord("1")


def test_less_than_a_page_is_the_caller_s_to_copy():
    one, two = Range(PAGESIZE), Range(PAGESIZE)
    assert two.show(one, 5, PAGESIZE - 5) == (5, 5)
    two.buffer[6] = 1
    two.drop(5, 10)
    assert two.buffer[6] == 1
