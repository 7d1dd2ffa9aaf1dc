"""Key/value memory: exact bytes, growth under a budget, and nothing changed by a refusal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_cases import session
from manyhands.engine.kv_cache import BlockShape, KvCache
from manyhands.errors import ContextOverflow, ManyhandsError, ResourceError, SessionUnknown

SHAPES = (BlockShape(2, 4, 4), BlockShape(1, 8, 2))
TOKEN_BYTES = 2 * (2 * 8 + 10)
A, B = session(1), session(2)


def empty(heads, tokens, width):
    return np.empty((heads, tokens, width), np.float16)


def cache_of(tokens):
    return KvCache(tokens * TOKEN_BYTES, 2, empty)


def held_bytes(cache, names):
    arrays = [array for n in names for pair in cache.memory(n).blocks for array in pair]
    return sum(array.nbytes for array in arrays)


def write(cache, name, first, last):
    """Every token's keys and values are its own number."""
    for pair in cache.memory(name).blocks:
        for array in pair:
            array[:, first:last] = np.arange(first, last)[None, :, None]
    cache.memory(name).length = last


def assert_holds(cache, name, count):
    for pair in cache.memory(name).blocks:
        for array in pair:
            assert (array[:, :count] == np.arange(count)[None, :, None]).all()


def test_memory_grows_in_chunks_of_64_by_half_and_keeps_what_it_holds():
    cache = cache_of(4096)
    cache.open(A, 4096, SHAPES)
    sizes = []
    for end in range(1, 1000):
        cache.reserve([(A, end)])
        write(cache, A, end - 1, end)
        sizes.append(cache.memory(A).capacity)
    assert sorted(set(sizes)) == [64, 128, 192, 320, 512, 768, 1152]
    assert_holds(cache, A, 999)


def test_capacity_never_passes_the_limit():
    cache = cache_of(4096)
    cache.open(A, 100, SHAPES)
    cache.reserve([(A, 65)])
    assert cache.memory(A).capacity == 100
    with pytest.raises(ContextOverflow):
        cache.reserve([(A, 101)])


def test_near_the_budget_growth_takes_only_what_is_needed():
    cache = cache_of(256 + 64)
    cache.open(A, 4096, SHAPES)
    cache.reserve([(A, 256)])
    cache.reserve([(A, 257)])
    assert cache.memory(A).capacity == 320
    assert cache.room() == 0


def test_a_refusal_names_what_is_needed_and_free():
    cache = cache_of(64)
    cache.open(A, 4096, SHAPES)
    with pytest.raises(ResourceError) as refused:
        cache.reserve([(A, 65)])
    assert f"needs {128 * TOKEN_BYTES} bytes" in str(refused.value)
    assert f"{64 * TOKEN_BYTES} of {64 * TOKEN_BYTES} are free" in str(refused.value)
    assert "raise kv_bytes (Settings(kv_bytes=…))" in str(refused.value)


def test_one_byte_short_is_too_little():
    needed = 64 * TOKEN_BYTES
    for budget, fits in ((needed, True), (needed - 1, False)):
        cache = KvCache(budget, 2, empty)
        cache.open(A, 4096, SHAPES)
        if fits:
            cache.reserve([(A, 1)])
            continue
        with pytest.raises(ResourceError):
            cache.reserve([(A, 1)])


def test_a_failed_allocation_half_way_is_told_and_counted_exactly():
    left = [7]

    def allocate(heads, tokens, width):
        left[0] -= tokens > 0
        if tokens and left[0] < 0:
            raise MemoryError
        return empty(heads, tokens, width)

    cache = KvCache(2**20, 2, allocate)
    cache.open(A, 4096, SHAPES)
    cache.reserve([(A, 64)])
    write(cache, A, 0, 64)
    with pytest.raises(ResourceError, match="system has no memory"):
        cache.reserve([(A, 128)])
    assert cache.memory(A).capacity == 64
    assert cache.room() == 2**20 - held_bytes(cache, [A])
    left[0] = 2  # enough for one block of the copy
    with pytest.raises(ResourceError):
        cache.open(B, 4096, SHAPES, A, 10)
    with pytest.raises(SessionUnknown):
        cache.memory(B)
    assert cache.room() == 2**20 - held_bytes(cache, [A])
    left[0] = 99
    cache.reserve([(A, 128)])
    assert_holds(cache, A, 64)
    assert cache.room() == 2**20 - 128 * TOKEN_BYTES
    cache.close(A)
    assert cache.room() == 2**20


OPERATIONS = st.one_of(
    st.tuples(st.just("open"), st.integers(0, 3), st.integers(0, 3), st.integers(0, 300)),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(st.just("grow"), st.integers(0, 3), st.integers(1, 300)),
    st.tuples(st.just("truncate"), st.integers(0, 3), st.integers(0, 300)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_bytes_are_exact_and_refusals_change_nothing_whatever_is_asked(operations):
    cache, lengths = cache_of(500), {}
    for kind, number, *rest in operations:
        name, before = session(number), (cache.room(), dict(lengths))
        try:
            if kind == "open":
                parent = session(rest[0]) if session(rest[0]) in lengths else None
                cache.open(name, 280, SHAPES, parent, rest[1] if parent else 0)
                lengths[name] = rest[1] if parent else 0
            elif kind == "close":
                cache.close(name)
                lengths.pop(name, None)
            elif kind == "grow":
                cache.reserve([(name, rest[0])])
                write(cache, name, min(rest[0], lengths[name]), rest[0])
                lengths[name] = rest[0]
            else:
                cache.truncate(name, rest[0])
                lengths[name] = min(lengths[name], rest[0])
        except ManyhandsError:
            assert (cache.room(), lengths) == before
        assert cache.room() == 500 * TOKEN_BYTES - held_bytes(cache, lengths)
        assert cache.room() >= 0
        for known, length in lengths.items():
            assert cache.memory(known).length == length
            assert_holds(cache, known, length)
