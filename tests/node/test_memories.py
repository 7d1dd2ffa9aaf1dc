"""Stage memories by session and span, and the newest epoch that was announced of each session."""

from __future__ import annotations

from manyhands.codec import codec
from manyhands.domain.work import Route, Stage
from manyhands.node.memories import Memories
from manyhands.node.stage import StageMemory
from node_cases import ANNA, LOWER, OTHER, SESSION, UPPER, opening, step, true_hidden

TWICE_HERE = Route((Stage(ANNA, LOWER), Stage(ANNA, UPPER)))


def memory(stage: int = 0, **changes) -> StageMemory:
    return StageMemory(opening(stage, TWICE_HERE, **changes), 0.0)


def filled() -> tuple[Memories, StageMemory, StageMemory, StageMemory]:
    memories = Memories()
    kept = memory(0), memory(1), memory(0, session=OTHER)
    for one in kept:
        memories.add(one)
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


def test_what_a_former_life_kept_can_be_taken_over():
    old, lower, _, _ = filled()
    memories = Memories()
    memories.restore(old.by_key)
    assert memories.at(SESSION, 0) is lower
    memories.remove(lower)
    assert old.at(SESSION, 0) is lower
