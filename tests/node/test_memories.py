"""Stage memories by session and span: their engines, and each session's newest epoch."""

from __future__ import annotations

import pytest

import frame_rows
from manyhands.codec import codec
from manyhands.domain.ids import SessionId
from manyhands.domain.messages import Refused, Rewire, SessionClose
from manyhands.domain.span import Span
from manyhands.domain.work import Route, SessionOpen, Stage, Step
from manyhands.engine.engine import Engine
from manyhands.node.memories import Memories
from manyhands.node.stage import StageMemory
from manyhands.sim.hash_engine import HashEngine
from node_cases import (
    ANNA,
    BEN,
    LOWER,
    MODEL_ID,
    OTHER,
    OWNER,
    SESSION,
    SPEC,
    UPPER,
    opening,
    step,
    true_hidden,
)
from worker_bench import on_bench

WHOLE = HashEngine(SPEC, SPEC.span)
TWICE_HERE = Route((Stage(ANNA, LOWER), Stage(ANNA, UPPER)))


def memory(stage: int = 0, **changes) -> StageMemory:
    return StageMemory(opening(stage, TWICE_HERE, **changes), 0.0)


def filled() -> tuple[Memories, StageMemory, StageMemory, StageMemory]:
    memories = Memories()
    kept = memory(0), memory(1), memory(0, session=OTHER)
    for one in kept:
        memories.add(one, WHOLE)
    return memories, *kept


def test_memories_are_found_by_session_and_by_place():
    memories, lower, upper, other = filled()
    assert memories.all() == [lower, upper, other]
    assert memories.of(SESSION) == [lower, upper]
    assert memories.at(SESSION, 1) is upper
    assert memories.at(OTHER, 1) is None
    assert memories.by_key[SESSION, UPPER] is upper


def test_a_place_is_that_of_the_newest_route():
    memories, lower, upper, _ = filled()
    lower.stage, upper.stage = 1, 0
    assert memories.at(SESSION, 1) is lower


def test_a_removed_memory_is_gone_and_the_others_stay():
    memories, lower, upper, other = filled()
    memories.remove(lower)
    memories.remove(lower)
    assert memories.all() == [upper, other]


def test_journal_bytes_are_those_of_all_sessions():
    memories, lower, _, other = filled()
    assert memories.journal_bytes() == 0
    lower.commit(step(0, 0, [1, 2]), true_hidden([1, 2]))
    other.commit(step(0, 0, [1]), true_hidden([1]))
    assert memories.journal_bytes() == 3 * codec.named("fp32").row_bytes(3)
    memories.remove(other)
    assert memories.journal_bytes() == 2 * codec.named("fp32").row_bytes(3)


def test_the_newest_epoch_only_grows_and_is_forgotten_with_the_last_memory():
    memories, lower, upper, _ = filled()
    assert memories.newest(SESSION) == 0
    memories.announce(SESSION, 3)
    memories.announce(SESSION, 2)
    assert (memories.newest(SESSION), memories.newest(OTHER)) == (3, 0)
    memories.remove(lower)
    assert memories.newest(SESSION) == 3
    memories.remove(upper)
    assert memories.newest(SESSION) == 0


def test_a_memory_stays_with_the_engine_it_was_opened_in():
    memories, lower, upper, _ = filled()
    smaller = HashEngine(SPEC, LOWER)
    other = memory(0, session=SessionId("7a" * 16))
    memories.add(other, smaller)
    assert memories.engine(lower) is memories.engine(upper) is WHOLE
    assert memories.engine(other) is smaller


def test_the_engine_of_a_removed_memory_is_forgotten_too():
    memories, lower, upper, _ = filled()
    memories.remove(lower)
    with pytest.raises(KeyError):
        memories.engine(lower)
    assert memories.engine(upper) is WHOLE


THREE = Route((Stage(BEN, Span(0, 1)), Stage(ANNA, Span(1, 3)), Stage(BEN, Span(3, 4))))
"""Ours is the middle, which two overlapping spans cover."""


def in_the_middle(**changes) -> SessionOpen:
    return opening(1, THREE, **changes)


def to_the_middle(sequence: int, first: int, text: list[int], **changes) -> Step:
    """The step that brings `text` from `first` on."""
    rows = frame_rows.cut(true_hidden(text, Span(0, 1)), first, len(text))
    return step(sequence, first, text[first:], THREE, stage=1, tensor=rows, **changes)


def from_the_middle(first: int, text: list[int]) -> bytes:
    return bytes(frame_rows.cut(true_hidden(text, Span(0, 3)), first, len(text)).payload)


def payloads(bench) -> list[bytes]:
    return [bytes(one.tensor.payload) for one in bench.passed_on()]


async def another_is_preferred(bench) -> Engine:
    """From now on another engine is found for our span; returns it."""
    before = bench.holdings.find(MODEL_ID, Span(1, 3))
    after = await bench.holdings.hold(MODEL_ID, Span(0, 3))
    assert bench.holdings.find(MODEL_ID, Span(1, 3)) is after is not before
    return after


def test_a_session_stays_in_the_engine_it_was_opened_in_though_another_is_loaded_later():
    async def test(bench):
        first = await bench.holdings.hold(MODEL_ID, Span(1, 4))
        empty = first.room()
        await bench.opened(in_the_middle())
        bench.receive(BEN, to_the_middle(0, 0, [1, 2]))
        await bench.settle()
        later = await another_is_preferred(bench)
        bench.receive(BEN, to_the_middle(1, 2, [1, 2, 3]))
        await bench.settle()
        bench.receive(OWNER, Rewire(SESSION, 2, THREE, 1, 2))
        bench.receive(BEN, to_the_middle(0, 2, [1, 2, 9], epoch=2))
        await bench.settle()
        assert bench.links.of(Refused) == []
        assert payloads(bench) == [
            from_the_middle(0, [1, 2]),
            from_the_middle(2, [1, 2, 3]),
            from_the_middle(2, [1, 2, 9]),
        ]
        assert later.room() == empty > first.room()
        bench.receive(OWNER, SessionClose(SESSION))
        await bench.settle()
        assert first.room() == empty

    on_bench(test)


def test_sessions_in_different_engines_are_not_computed_together():
    async def test(bench):
        await bench.holdings.hold(MODEL_ID, Span(1, 4))
        await bench.opened(in_the_middle())
        await another_is_preferred(bench)
        await bench.opened(in_the_middle(session=OTHER))
        bench.receive(BEN, to_the_middle(0, 0, [1, 2]), to_the_middle(0, 0, [3], session=OTHER))
        await bench.settle()
        assert bench.batches == [[2], [1]]
        assert payloads(bench) == [from_the_middle(0, [1, 2]), from_the_middle(0, [3])]

    on_bench(test)


def test_a_fork_goes_on_in_its_parents_engine_though_another_is_loaded_later():
    async def test(bench):
        await bench.holdings.hold(MODEL_ID, Span(1, 4))
        await bench.opened(in_the_middle())
        bench.receive(BEN, to_the_middle(0, 0, [1, 2, 3]))
        await bench.settle()
        await another_is_preferred(bench)
        bench.receive(OWNER, in_the_middle(session=OTHER, parent=SESSION, parent_position=2))
        bench.receive(BEN, to_the_middle(0, 2, [1, 2, 9], session=OTHER))
        await bench.settle()
        assert bench.links.of(Refused) == []
        assert payloads(bench)[-1] == from_the_middle(2, [1, 2, 9])

    on_bench(test)
