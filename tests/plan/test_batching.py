"""Who runs together, in whose turn; how long to wait; how long a chunk may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manyhands.plan.batching import (
    LEAST_CHUNK,
    MOST_STEPS,
    PATIENCE,
    SHORT_TOKENS,
    Waiting,
    chunk_tokens,
    patience_s,
    together,
)

CHUNK = 128


def token(turn: int = 0, engine: int = 1, is_behind_chunk: bool = False) -> Waiting:
    return Waiting(engine, 1, turn, is_behind_chunk)


def chunk(turn: int = 0, engine: int = 1, tokens: int = CHUNK) -> Waiting:
    return Waiting(engine, tokens, turn)


def test_nothing_waits_nothing_runs():
    assert together([], CHUNK) == []


def test_next_tokens_come_first_and_one_chunk_rides_with_them():
    assert together([chunk(), token(), chunk(), token()], CHUNK) == [1, 3, 0]


def test_the_chunk_is_of_whoever_was_served_longest_ago():
    assert together([chunk(5), token(6), chunk(4)], CHUNK) == [1, 2]


def test_who_has_waited_for_one_chunk_does_not_wait_for_another():
    assert together([chunk(), token(is_behind_chunk=True), token()], CHUNK) == [1, 2]


def test_chunks_run_together_while_they_are_no_longer_than_one():
    small = chunk(tokens=CHUNK // 2)
    assert together([small, small, small], CHUNK) == [0, 1]
    assert together([chunk(tokens=4 * CHUNK), small], CHUNK) == [0]


def test_a_batch_is_for_one_engine_that_of_the_session_served_longest_ago():
    assert together([token(3, engine=1), token(2, engine=2), token(4, engine=2)], CHUNK) == [1, 2]


def test_a_place_is_kept_for_a_chunk_however_many_wait_for_a_token():
    crowd = [token(turn=1)] * (2 * MOST_STEPS)
    assert len(together(crowd, CHUNK)) == MOST_STEPS
    chosen = together([*crowd, chunk(turn=9)], CHUNK)
    assert len(chosen) == MOST_STEPS
    assert chosen[-1] == len(crowd)


STEPS = st.builds(Waiting, st.integers(1, 3), st.integers(1, 300), st.integers(0, 9), st.booleans())


@given(st.lists(STEPS, min_size=1, max_size=80))
def test_whatever_waits_a_batch_is_whole_and_fair(waiting: list[Waiting]):
    chosen = together(waiting, CHUNK)
    assert len(set(chosen)) == len(chosen) <= MOST_STEPS
    assert len({waiting[place].engine for place in chosen}) == 1
    short = [place for place in chosen if waiting[place].is_short]
    long = [place for place in chosen if not waiting[place].is_short]
    if short:
        assert len(long) <= 1
    else:
        assert sum(waiting[place].tokens for place in long[1:]) <= CHUNK
    engine = waiting[chosen[0]].engine
    left = [one for place, one in enumerate(waiting) if place not in chosen]
    passed_over = [one.turn for one in left if one.engine == engine and one.is_short]
    assert all(waiting[place].turn <= turn for place in short for turn in passed_over)


@given(st.lists(STEPS, min_size=1, max_size=40))
def test_everybody_is_served_within_as_many_batches_as_there_are_steps(waiting: list[Waiting]):
    left = list(waiting)
    for _ in waiting:
        chosen = together(left, CHUNK)
        assert chosen or not left
        left = [one for place, one in enumerate(left) if place not in chosen]
    assert not left


def test_a_prompt_without_end_does_not_keep_others_from_theirs():
    turns = {"long": 0, "other": 0}
    for turn in range(1, 20):
        names = list(turns)
        (place,) = together([chunk(turns[name]) for name in names], CHUNK)
        turns[names[place]] = turn
    assert min(turns.values()) == 18


def test_it_pays_to_wait_for_those_who_are_back_within_a_small_part_of_a_step():
    most = 10.0 + PATIENCE * 1.0
    assert patience_s(10.0, 10.0, [10.05, most, most + 0.01], 1.0) == most - 10.0
    assert patience_s(10.1, 10.0, [10.05, 10.3], 1.0) == 0.0  # one is here or late, one too far
    assert patience_s(10.0, 10.0, [], 1.0) == 0.0
    assert patience_s(10.0, 10.0, [10.05], 0.0) == 0.0  # nobody knows how long a step takes


def test_a_chunk_is_halved_until_it_holds_up_others_no_longer_than_allowed():
    def seconds(tokens: int) -> float:
        return 0.05 + 0.001 * tokens

    assert chunk_tokens(128, 1.0, seconds) == 128
    assert chunk_tokens(128, 0.0631, seconds) == 64
    assert chunk_tokens(128, 0.02, seconds) == LEAST_CHUNK
    assert chunk_tokens(128, 0.0, seconds) == LEAST_CHUNK
    assert chunk_tokens(4, 0.0, seconds) == 4
    assert LEAST_CHUNK > SHORT_TOKENS
