"""Key/value memory: pages counted to the byte, shared uncopied, never moved, never leaked."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_cases import session, shared_bytes
from manyhands.engine.kv_cache import BlockShape, KvCache
from manyhands.engine.page_table import PAGE_TOKENS
from manyhands.engine.pages import Range
from manyhands.errors import (
    ContextOverflow,
    ManyhandsError,
    MemoryFull,
    ResourceError,
    SessionUnknown,
)

SHAPES = (BlockShape(2, 4, 4), BlockShape(1, 8, 2), BlockShape(1, 20, 0))
TOKEN_BYTES = 4 * (2 * 8 + 10 + 20)
CONTEXT = 4096
A, B, C = session(1), session(2), session(3)


def view(buffer, offset, shape):
    count = math.prod(shape)
    flat = np.frombuffer(buffer, np.float32, count, offset) if count else np.empty(0, np.float32)
    return flat.reshape(shape)


def cache_of(tokens, shapes=SHAPES):
    size = 4 * sum(shape.elements for shape in shapes)
    return KvCache(tokens * size, 4, CONTEXT, view)


def write(cache, name, first, last, mark=0):
    """Every token's keys and values are its own number, and `mark`."""
    cache.write_at(name, first, last)
    for pair in cache.memory(name).blocks:
        for array in pair:
            array[:, first:last] = (np.arange(first, last) % 512 + 512 * mark)[None, :, None]
    cache.memory(name).length = last


def marks(cache, name, count):
    """The mark of each token, once all arrays agree upon it."""
    found = []
    for pair in cache.memory(name).blocks:
        for array in pair:
            if array.shape[2]:
                held = array[:, :count].astype(np.int64)
                assert (held == held[:1, :, :1]).all()
                assert (held[0, :, 0] % 512 == np.arange(count) % 512).all()
                found.append((held[0, :, 0] // 512).tolist())
    assert all(one == found[0] for one in found)
    return found[0]


def test_a_session_is_given_all_its_pages_when_it_begins_and_its_arrays_never_move():
    cache = cache_of(640)
    cache.open(A, 100, SHAPES)
    assert cache.room() == (640 - 2 * PAGE_TOKENS) * TOKEN_BYTES
    before = cache.memory(A).blocks
    for end in range(1, 101):
        write(cache, A, end - 1, end)
    assert cache.memory(A).blocks is before
    assert marks(cache, A, 100) == [0] * 100
    assert cache.room() == (640 - 2 * PAGE_TOKENS) * TOKEN_BYTES
    with pytest.raises(ContextOverflow):
        cache.write_at(A, 100, 101)
    cache.close(A)
    assert cache.room() == 640 * TOKEN_BYTES


def test_a_refusal_says_what_would_fit_and_whether_waiting_helps():
    cache = cache_of(640)
    with pytest.raises(ResourceError, match="640 tokens would fit") as never:
        cache.open(A, 641, SHAPES)
    assert not isinstance(never.value, MemoryFull)
    cache.open(A, 500, SHAPES)
    with pytest.raises(MemoryFull, match=f"{128 * TOKEN_BYTES} of {640 * TOKEN_BYTES} are free"):
        cache.open(B, 129, SHAPES)
    cache.open(B, 128, SHAPES)
    assert cache.room() == 0


def test_a_shared_beginning_is_counted_once_and_outlives_the_parent():
    cache = cache_of(1000)
    cache.open(A, 320, SHAPES)
    write(cache, A, 0, 300)
    cache.open(B, 320, SHAPES, A, 256)
    assert cache.room() == (1000 - 320 - 64) * TOKEN_BYTES
    write(cache, A, 300, 310, mark=1)
    write(cache, B, 256, 300, mark=2)
    assert marks(cache, A, 310) == [0] * 300 + [1] * 10
    assert marks(cache, B, 300) == [0] * 256 + [2] * 44
    cache.close(A)
    assert cache.room() == (1000 - 320) * TOKEN_BYTES
    assert marks(cache, B, 300) == [0] * 256 + [2] * 44
    cache.close(B)
    assert cache.room() == 1000 * TOKEN_BYTES


def test_within_a_page_the_beginning_is_copied():
    cache = cache_of(1000)
    cache.open(A, 320, SHAPES)
    write(cache, A, 0, 300)
    cache.open(B, 320, SHAPES, A, 200)
    assert cache.room() == (1000 - 320 - 128) * TOKEN_BYTES
    write(cache, B, 200, 220, mark=3)
    assert marks(cache, A, 300) == [0] * 300
    assert marks(cache, B, 220) == [0] * 200 + [3] * 20


def test_who_writes_over_what_is_shared_gets_pages_of_its_own():
    cache = cache_of(2000)
    cache.open(A, 320, SHAPES)
    write(cache, A, 0, 300)
    cache.open(B, 320, SHAPES, A, 256)
    room = cache.room()
    cache.truncate(A, 100)
    write(cache, A, 100, 130, mark=1)  # the parent: what its child reads stays
    assert marks(cache, B, 256) == [0] * 256
    assert marks(cache, A, 130) == [0] * 100 + [1] * 30
    assert cache.room() == room - 3 * PAGE_TOKENS * TOKEN_BYTES
    cache.truncate(B, 70)
    write(cache, B, 70, 80, mark=2)
    assert marks(cache, B, 80) == [0] * 70 + [2] * 10
    assert marks(cache, A, 130) == [0] * 100 + [1] * 30
    for name in (A, B):
        cache.close(name)
    assert cache.room() == 2000 * TOKEN_BYTES


def test_a_conversation_of_many_turns_shares_turn_after_turn():
    cache, names = cache_of(4096), [session(number) for number in range(12)]
    cache.open(names[0], 320, SHAPES)
    write(cache, names[0], 0, 100)
    for turn in range(1, 12):
        parent, child = names[turn - 1 : turn + 1]
        cache.trim(parent)
        at = cache.memory(parent).length // PAGE_TOKENS * PAGE_TOKENS
        cache.open(child, 100 * (turn + 1) + 64, SHAPES, parent, at)
        cache.close(parent)
        write(cache, child, at, 100 * (turn + 1), mark=turn)
    held = marks(cache, names[11], 1200)
    assert held == sorted(held)
    assert held[-1] == 11
    assert cache.room() == (4096 - 1280) * TOKEN_BYTES


def test_trimmed_memory_keeps_what_it_holds_and_gives_the_rest_back():
    cache = cache_of(640)
    cache.open(A, 640, SHAPES)
    write(cache, A, 0, 65)
    cache.trim(A)
    assert cache.room() == (640 - 128) * TOKEN_BYTES
    assert marks(cache, A, 65) == [0] * 65
    with pytest.raises(ContextOverflow):
        cache.write_at(A, 65, 66)


def test_a_system_without_memory_is_told_and_nothing_is_taken():
    endless = (BlockShape(1, 2**42, 2**42),)
    cache = KvCache(2**62, 4, CONTEXT, view)
    with pytest.raises(ResourceError, match="system has no memory"):
        cache.open(A, 64, endless)
    assert cache.room() == 2**62
    with pytest.raises(SessionUnknown):
        cache.memory(A)


@pytest.mark.skipif(not Range(1).can_be_shown, reason="files in memory are Linux's")
def test_memory_goes_back_to_the_system_at_once_but_for_what_others_read():
    wide = (BlockShape(4, 64, 64),)
    cache = cache_of(10_000, wide)
    cache.open(A, 4096, wide)
    write(cache, A, 0, 4096)
    cache.open(B, 4096, wide, A, 1024)
    full = shared_bytes()
    cache.close(A)
    assert full - shared_bytes() > 0.7 * 3072 * 2048
    assert marks(cache, B, 1024) == [0] * 1024
    cache.close(B)
    assert full - shared_bytes() > 0.9 * 4096 * 2048


OPERATIONS = st.one_of(
    st.tuples(st.just("open"), st.integers(0, 3), st.integers(0, 3), st.integers(0, 300)),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(st.just("trim"), st.integers(0, 3)),
    st.tuples(st.just("write"), st.integers(0, 3), st.integers(0, 300), st.integers(1, 100)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_texts_stay_whole_and_refusals_change_nothing_whatever_is_asked(operations):
    cache, texts = cache_of(700), {}
    for count, (kind, number, *rest) in enumerate(operations, 1):
        name, before = session(number), cache.room()
        try:
            if kind == "open":
                parent = session(rest[0]) if session(rest[0]) in texts else None
                at = rest[1] if parent else 0
                cache.open(name, 280, SHAPES, parent, at)
                texts[name] = texts[parent][:at] if parent else []
            elif kind == "close":
                cache.close(name)
                texts.pop(name, None)
            elif kind == "trim":
                cache.trim(name)
            elif name in texts:
                first = min(rest[0], len(texts[name]))
                write(cache, name, first, first + rest[1], mark=count)
                texts[name] = texts[name][:first] + [count] * rest[1]
        except ManyhandsError:
            assert cache.room() == before
        assert 0 <= cache.room() <= 700 * TOKEN_BYTES
        for known, text in texts.items():
            assert cache.memory(known).length == len(text)
            assert marks(cache, known, len(text)) == text
    for name in list(texts):
        cache.close(name)
    assert cache.room() == 700 * TOKEN_BYTES


def test_a_copy_holds_the_same_and_goes_its_own_way():
    cache = cache_of(1024)
    cache.open(A, 300, SHAPES)
    write(cache, A, 0, 200, mark=1)
    cache.open(B, 300, SHAPES, A, 150)
    twin = copy.deepcopy(cache)
    assert [twin.memory(name).length for name in (A, B)] == [200, 150]
    write(cache, A, 100, 220, mark=2)
    write(twin, B, 0, 150, mark=3)
    assert marks(twin, A, 200) == [1] * 200
    assert marks(cache, B, 150) == [1] * 150
