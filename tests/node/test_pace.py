"""The size of a chunk follows the plan at first, then what chunks really take."""

from __future__ import annotations

from math import inf

from manyhands.domain.settings import Settings
from manyhands.node.pace import Pace

SETTINGS = Settings(chunk_tokens=128, chunk_delay_s=0.05)
MANY = 2000


def test_without_a_plan_chunks_are_as_large_as_allowed():
    pace = Pace(SETTINGS)
    pace.took(128, 0, (9.0,))
    assert pace.tokens(0, MANY) == 128


def test_the_slowest_stage_decides():
    pace = Pace(SETTINGS)
    pace.begin(lambda tokens, at: (0.01 + 1e-4 * tokens, 0.01 + 1e-3 * tokens))
    assert pace.tokens(0, MANY) == 32  # 31 ms more than one token; 64 would be 63


def test_chunks_shrink_when_they_take_longer_than_planned_and_grow_again():
    pace = Pace(SETTINGS)
    pace.begin(lambda tokens, at: (0.01 + 1e-4 * tokens,))
    assert pace.tokens(0, MANY) == 128
    for _ in range(8):
        pace.took(pace.tokens(0, MANY), 0, (10 * (0.01 + 1e-4 * pace.tokens(0, MANY)),))
    assert pace.tokens(0, MANY) == 32
    for _ in range(8):
        pace.took(pace.tokens(0, MANY), 0, (0.01 + 1e-4 * pace.tokens(0, MANY),))
    assert pace.tokens(0, MANY) == 128


def test_a_short_step_says_nothing_of_chunks():
    pace = Pace(SETTINGS)
    pace.begin(lambda tokens, at: (0.01 + 1e-4 * tokens,))
    pace.took(1, 0, (60.0,))
    assert pace.tokens(0, MANY) == 128


def test_a_device_that_says_nonsense_of_itself_does_not_matter():
    pace = Pace(SETTINGS)
    for nonsense in (inf, 0.0):
        pace.begin(lambda tokens, at, s=nonsense: (s,))
        pace.took(128, 0, (0.1,))
        assert pace.tokens(0, MANY) == 128


def test_chunks_shrink_as_there_is_more_to_look_back_at():
    pace = Pace(SETTINGS)
    pace.begin(lambda tokens, at: (0.01 + 2e-4 * tokens + 2e-7 * tokens * at,))
    assert [pace.tokens(position, MANY) for position in (0, 1000, 4000)] == [128, 64, 32]


def test_what_no_plan_would_cut_goes_as_it_is_and_asks_none():
    pace, asked = Pace(SETTINGS), []
    pace.begin(lambda tokens, at: asked.append(tokens) or (1.0 * tokens,))
    assert [pace.tokens(500, left) for left in (1, 16)] == [1, 16]
    assert not asked
    assert pace.tokens(500, 17) == 16
