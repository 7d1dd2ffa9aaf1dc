"""The hash engine: every entry of its memory shapes its text; its errors are those of an Engine."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.ids import SessionId
from manyhands.domain.span import Span, even_cuts
from manyhands.engine.engine import Chunk, Output
from manyhands.engine.page_table import PAGE_TOKENS
from manyhands.errors import ContextOverflow, MemoryFull, ResourceError, SessionUnknown, UserError
from manyhands.sim.hash_engine import ENTRY_BYTES, HashEngine, hash_spec

SPEC = hash_spec(4, vocabulary=32, context=64)
WHOLE = SPEC.span
A, B = SessionId("a" * 32), SessionId("b" * 32)
token_lists = st.lists(st.integers(0, 31), min_size=1, max_size=12)


def chunk(session: SessionId, position: int, tokens: Sequence[int], hidden=None) -> Chunk:
    return Chunk(session, position, tuple(tokens), hidden, tuple(range(len(tokens))))


def whole(limit: int = 64, **options) -> HashEngine:
    engine = HashEngine(SPEC, WHOLE, **options)
    engine.open(A, limit)
    return engine


def feed(engine: HashEngine, position: int, tokens: Sequence[int]) -> Output:
    return engine.step([chunk(A, position, tokens)])[0]


def choices(output: Output) -> list[int]:
    return output.scores.argmax(axis=1).tolist()


def true_scores(tokens: Sequence[int]) -> np.ndarray:
    return HashEngine(SPEC, WHOLE).forward(tokens, None).scores


@given(token_lists, st.integers(1, 5))
def test_chunks_of_any_size_say_what_the_whole_says(tokens, size):
    engine = whole()
    parts = [feed(engine, at, tokens[at : at + size]).scores for at in range(0, len(tokens), size)]
    np.testing.assert_array_equal(np.concatenate(parts), true_scores(tokens))
    assert engine.length(A) == len(tokens)


@given(token_lists, st.integers(1, 6))
def test_spans_one_after_the_other_say_what_the_whole_says(tokens, parts):
    hidden = None
    for span in even_cuts(len(SPEC.layers), parts):
        output = HashEngine(SPEC, span).forward(tokens, hidden)
        hidden = output.hidden
    np.testing.assert_array_equal(output.scores, true_scores(tokens))


@given(st.lists(st.integers(0, 31), min_size=2, max_size=12), st.data())
def test_one_other_token_changes_the_choice_source_of_every_later_row(tokens, data):
    at = data.draw(st.integers(0, len(tokens) - 1))
    other = list(tokens)
    other[at] = data.draw(st.integers(0, 31).filter(lambda token: token != tokens[at]))
    mine = HashEngine(SPEC, WHOLE).forward(tokens, None).hidden
    theirs = HashEngine(SPEC, WHOLE).forward(other, None).hidden
    same = (mine == theirs).all(axis=1).tolist()
    assert same == [True] * at + [False] * (len(tokens) - at)


def test_a_stale_entry_changes_the_text():
    engine, stale = whole(), whole()
    feed(engine, 0, [1, 2, 3])
    feed(stale, 0, [1, 9, 3])
    feed(stale, 1, [2])  # rewrote 1, and a worker that forgot to cut goes on behind the old 2
    stale._memories[A].length = 3
    assert choices(feed(stale, 3, [4])) != choices(feed(engine, 3, [4]))


def test_a_missing_entry_changes_the_text():
    full, short = whole(), whole()
    feed(full, 0, [1, 2, 3])
    feed(short, 0, [1, 3])
    assert choices(feed(short, 2, [4])) != choices(feed(full, 3, [4]))


def test_a_doubled_entry_changes_the_text():
    once, twice = whole(), whole()
    feed(once, 0, [1, 2])
    feed(twice, 0, [1, 2])
    feed(twice, 2, [2])
    assert choices(feed(twice, 3, [4])) != choices(feed(once, 2, [4]))


def test_a_step_repeated_at_its_position_is_harmless():
    engine = whole()
    feed(engine, 0, [1, 2])
    first = feed(engine, 2, [3, 4])
    np.testing.assert_array_equal(feed(engine, 2, [3, 4]).scores, first.scores)
    assert engine.length(A) == 4


def test_truncating_and_going_on_says_what_a_fresh_memory_says():
    engine = whole()
    feed(engine, 0, [1, 2, 3, 4, 5])
    engine.truncate(A, 2)
    assert engine.length(A) == 2
    engine.truncate(A, 50)
    assert engine.length(A) == 2
    np.testing.assert_array_equal(feed(engine, 2, [7, 8]).scores, true_scores([1, 2, 7, 8])[2:])


def test_a_fork_goes_on_from_its_parent_and_neither_touches_the_other():
    engine = whole()
    feed(engine, 0, [1, 2, 3])
    engine.open(B, 64, parent=A, at=2)
    assert engine.length(B) == 2
    forked = engine.step([chunk(B, 2, [9])])[0]
    np.testing.assert_array_equal(forked.scores, true_scores([1, 2, 9])[2:])
    np.testing.assert_array_equal(feed(engine, 3, [4]).scores, true_scores([1, 2, 3, 4])[3:])
    with pytest.raises(UserError, match="fewer than 9"):
        engine.open(SessionId("c"), 64, parent=A, at=9)
    with pytest.raises(SessionUnknown):
        engine.open(SessionId("c"), 64, parent=SessionId("nobody"), at=0)


def test_a_session_may_use_a_part_of_the_span_only():
    engine = HashEngine(SPEC, WHOLE)
    engine.open(A, 64, span=Span(0, 3))
    hidden = engine.step([chunk(A, 0, [1, 2])])[0].hidden
    engine.open(B, 64, span=Span(3, 6))
    output = engine.step([chunk(B, 0, [1, 2], hidden)])[0]
    np.testing.assert_array_equal(output.scores, true_scores([1, 2]))
    with pytest.raises(UserError, match="not within"):
        HashEngine(SPEC, Span(0, 3)).open(A, 64, span=Span(2, 4))


@pytest.mark.parametrize(
    ("position", "tokens", "error"),
    [
        (3, [1], UserError),  # beyond the length
        (0, [32], UserError),  # outside the vocabulary
        (0, [-1], UserError),
        (2, [1] * 7, ContextOverflow),
    ],
)
def test_a_bad_chunk_is_refused_and_changes_nothing(position, tokens, error):
    engine = whole(limit=8)
    feed(engine, 0, [1, 2])
    before = copy.deepcopy(engine._memories[A].chains)
    engine.open(B, 64)
    with pytest.raises(error):
        engine.step([chunk(B, 0, [1]), chunk(A, position, tokens)])
    assert engine._memories[A].chains == before
    assert (engine.length(A), engine.length(B)) == (2, 0)


def test_hidden_states_come_in_exactly_above_the_embedding():
    engine = whole()
    with pytest.raises(UserError, match="above the embedding"):
        engine.step([chunk(A, 0, [1], np.zeros((1, 3), np.float32))])
    upper = HashEngine(SPEC, Span(1, 6))
    upper.open(A, 64)
    with pytest.raises(UserError, match="above the embedding"):
        upper.step([chunk(A, 0, [1])])


def test_pages_are_counted_as_real_engines_do_and_shared_ones_once():
    page = PAGE_TOKENS * len(WHOLE) * ENTRY_BYTES
    engine = HashEngine(SPEC, WHOLE, kv_bytes=3 * page)
    engine.open(A, 2 * PAGE_TOKENS)
    assert engine.room() == page
    with pytest.raises(MemoryFull):
        engine.open(B, 2 * PAGE_TOKENS)
    with pytest.raises(ResourceError, match="would fit"):
        engine.open(B, 4 * PAGE_TOKENS)
    feed(engine, 0, [1] * (PAGE_TOKENS + 1))
    engine.open(B, 2 * PAGE_TOKENS, A, PAGE_TOKENS)
    assert engine.room() == 0
    engine.trim(B)
    assert engine.room() == page
    engine.close(A)
    assert engine.room() == 2 * page
    engine.close(B)
    engine.close(B)  # unknown by now: no error
    assert engine.room() == 3 * page


def test_unknown_and_doubly_opened_sessions_are_errors():
    engine = whole()
    with pytest.raises(UserError, match="open already"):
        engine.open(A, 64)
    for call in (engine.length, lambda name: engine.truncate(name, 0)):
        with pytest.raises(SessionUnknown):
            call(B)
    with pytest.raises(SessionUnknown):
        engine.step([chunk(B, 0, [1])])


def test_scores_name_one_best_token_for_every_row():
    scores = true_scores(range(32))
    assert scores.dtype == np.float32
    assert (np.sort(scores, axis=1)[:, -1] > np.sort(scores, axis=1)[:, -2]).all()


def test_cost_grows_with_layers_and_tokens():
    engine = HashEngine(SPEC, Span(1, 4), token_s=0.5)
    assert engine.cost_s([chunk(A, 0, [1, 2]), chunk(B, 0, [1])]) == 0.5 * 3 * 3
    assert engine.weight_bytes == 12
