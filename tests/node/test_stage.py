"""A stage's memory: which steps are taken, dropped or refused; what is cut, what is kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import frame_rows
from manyhands.codec import codec
from manyhands.domain.messages import Rewire
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Route, Stage
from manyhands.node.rules import Rules
from manyhands.node.stage import (
    Journal,
    Ruling,
    StageMemory,
    history_digest,
)
from node_cases import ANNA, BEN, LOWER, OTHER, OWNER, ROUTE, SESSION, UPPER, opening, step

CODECS = tuple(name for name in codec.names() if codec.named(name).takes == "numbers")


def memory(rules: Rules | None = None, stage: int = 0) -> StageMemory:
    return StageMemory(opening(stage), 0.0, rules or Rules())


def take(at: StageMemory, one, sent: TensorFrame | None = None) -> None:
    """A step that must be taken, computed and committed."""
    assert at.judge(one) is Ruling.TAKE
    at.begin(one, 0.0)
    at.commit(one, sent)


def rows(first: int, last: int, name: str = "fp32", width: int = 3) -> TensorFrame:
    """Encoded rows in which row n is all n."""
    return codec.encode(
        name, np.repeat(np.arange(first, last, dtype=np.float32)[:, None], width, axis=1)
    )


def rewire(epoch: int, position: int, stage: int = 0) -> Rewire:
    return Rewire(SESSION, epoch, ROUTE, stage, position)


def test_steps_in_order_are_taken_and_their_tokens_kept():
    at = memory()
    take(at, step(0, 0, [1, 2]))
    take(at, step(1, 2, [3]))
    assert at.tokens == [1, 2, 3]
    assert (at.length, at.finished) == (3, 2)
    assert at.history() == history_digest([1, 2, 3])


@pytest.mark.parametrize("first", [0, 7])
def test_the_first_step_of_an_epoch_sets_the_count(first):
    at = memory()
    take(at, step(first, 0, [1]))
    assert at.judge(step(first + 1, 1, [2])) is Ruling.TAKE
    assert at.judge(step(first + 2, 1, [2])) is Ruling.GAP
    assert at.judge(step(first, 1, [2])) is Ruling.DROP


def test_judging_changes_nothing():
    at = memory()
    take(at, step(0, 0, [1]))
    for _ in range(2):
        assert at.judge(step(1, 1, [2])) is Ruling.TAKE
        assert at.judge(step(0, 1, [2])) is Ruling.DROP
    assert at.tokens == [1]


def test_a_position_below_the_length_cuts_and_one_beyond_it_is_a_gap():
    at = memory()
    take(at, step(0, 0, [1, 2, 3]), rows(0, 3))
    assert at.judge(step(1, 4, [5])) is Ruling.GAP
    take(at, step(1, 1, [8]), rows(1, 2))
    assert at.tokens == [1, 8]
    assert at.journal.size_bytes == 2 * 3 * 4


def test_an_old_branch_is_dropped_and_a_newer_one_stays():
    at = memory()
    take(at, step(0, 0, [1, 2, 3], branch=0))
    take(at, step(1, 2, [9], branch=1))
    assert at.judge(step(2, 3, [4], branch=0)) is Ruling.DROP
    assert at.judge(step(2, 3, [4], branch=1)) is Ruling.TAKE
    assert at.judge(step(2, 3, [4], branch=5)) is Ruling.TAKE


@pytest.mark.parametrize("epoch", [0, 2])
def test_steps_of_another_epoch_are_dropped(epoch):
    assert memory().judge(step(0, 0, [1], epoch=epoch)) is Ruling.DROP


def test_a_step_that_began_and_was_not_committed_can_be_repeated_in_a_new_epoch():
    at = memory()
    take(at, step(0, 0, [1, 2]), rows(0, 2))
    at.begin(step(1, 2, [3]), 5.0)
    assert at.running_since_s == 5.0
    assert at.tokens == [1, 2]
    assert at.rewire(rewire(2, 2))
    take(at, step(0, 2, [3], epoch=2), rows(2, 3))
    assert at.tokens == [1, 2, 3]


def test_a_rewire_cuts_at_its_position_and_counts_anew():
    at = memory()
    take(at, step(4, 0, [1, 2, 3], branch=3), rows(0, 3))
    swapped = Route((Stage(BEN, LOWER), Stage(ANNA, UPPER)))
    assert at.rewire(Rewire(SESSION, 5, swapped, 1, 2))
    assert (at.epoch, at.stage, at.route) == (5, 1, swapped)
    assert at.tokens == [1, 2]
    assert at.journal.size_bytes == 2 * 3 * 4
    assert at.judge(step(0, 2, [3], epoch=5, branch=0)) is Ruling.TAKE
    assert at.judge(step(1, 2, [3], epoch=1)) is Ruling.DROP


@pytest.mark.parametrize("epoch", [1, 0])
def test_a_rewire_that_is_not_newer_changes_nothing(epoch):
    at = memory()
    take(at, step(0, 0, [1, 2]))
    assert not at.rewire(rewire(epoch, 0, stage=1))
    assert (at.tokens, at.stage, at.epoch) == ([1, 2], 0, 1)


def test_an_opening_of_a_newer_epoch_is_taken_up_like_a_rewire():
    at = memory()
    take(at, step(0, 0, [1, 2, 3]))
    assert at.rewire(opening(epoch=2, position=1))
    assert at.tokens == [1]


def test_a_cut_beyond_the_length_changes_nothing():
    at = memory()
    take(at, step(0, 0, [1, 2]), rows(0, 2))
    at.cut(2)
    at.cut(9)
    assert at.tokens == [1, 2]
    assert at.journal.rows(0, 2) == rows(0, 2)


def test_who_is_before_and_who_is_next():
    first, last = memory(stage=0), memory(stage=1)
    assert first.stage_before == OWNER
    assert first.next_stage == ROUTE.stages[1]
    assert last.stage_before == ANNA
    assert last.next_stage is None
    assert (last.span, ROUTE.stages[1].peer) == (UPPER, BEN)


def test_two_spans_of_a_session_have_different_names_for_the_engine():
    names = {memory(stage=0).name, memory(stage=1).name}
    names.add(StageMemory(opening(session=OTHER), 0.0).name)
    assert len(names) == 3


# Each rule, switched off, lets through exactly what it forbids.

SWITCHES = {
    "drop_old_epochs": (step(1, 2, [3], epoch=0), Ruling.DROP),
    "drop_old_sequences": (step(0, 2, [3]), Ruling.DROP),
    "drop_old_branches": (step(1, 2, [3], branch=1), Ruling.DROP),
    "refuse_gaps": (step(1, 5, [3]), Ruling.GAP),
}


@pytest.mark.parametrize("rule", SWITCHES)
def test_a_rule_switched_off_changes_the_ruling_it_names_and_no_other(rule):
    for off in (None, *SWITCHES):
        at = memory(Rules() if off is None else Rules(**{off: False}))
        take(at, step(0, 0, [1, 2], branch=2))
        one, ruling = SWITCHES[rule]
        if rule != "drop_old_branches":
            one = replace(one, branch=2)
        assert at.judge(one) is (Ruling.TAKE if off == rule else ruling)


def test_without_refusing_gaps_a_skipped_sequence_is_taken_too():
    at = memory(Rules(refuse_gaps=False))
    take(at, step(0, 0, [1]))
    assert at.judge(step(5, 1, [2])) is Ruling.TAKE


def test_without_dropping_old_epochs_an_old_rewire_is_taken_up():
    at = memory(Rules(drop_old_epochs=False))
    take(at, step(0, 0, [1, 2]))
    assert at.rewire(rewire(0, 1))
    assert (at.epoch, at.tokens) == (0, [1])


def test_without_cutting_by_position_the_journal_keeps_rejected_rows():
    for cuts in (True, False):
        at = memory(Rules(cut_by_position=cuts))
        take(at, step(0, 0, [1, 2, 3]), rows(0, 3))
        take(at, step(1, 1, [8]), rows(7, 8))
        is_right = at.journal.rows(1, 2) == rows(7, 8)
        assert is_right is cuts


def test_without_cutting_the_journal_it_keeps_rejected_rows_too():
    for cuts in (True, False):
        at = memory(Rules(cut_journal=cuts))
        take(at, step(0, 0, [1, 2, 3]), rows(0, 3))
        take(at, step(1, 1, [8]), rows(7, 8))
        assert at.tokens == [1, 8]
        is_right = at.journal.rows(1, 2) == rows(7, 8)
        assert is_right is cuts


# The journal


@pytest.mark.parametrize("name", CODECS)
@given(cuts=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), min_size=1, max_size=8))
def test_a_journal_gives_back_the_newest_row_of_every_position(name, cuts):
    journal, kept = Journal(), []
    for number, (at, count) in enumerate(cuts):
        position = min(at, len(kept))
        journal.cut(position)
        journal.append(rows(100 * number, 100 * number + count, name))
        kept[position:] = range(100 * number, 100 * number + count)
    assert journal.size_bytes == len(kept) * rows(0, 1, name).row_bytes
    for first in range(len(kept)):
        expected = np.repeat(np.array(kept[first:], np.float32)[:, None], 3, axis=1)
        frame = journal.rows(first, len(kept))
        assert frame.shape == expected.shape
        # numbers up to 2048 are whole in fp16; bf16 keeps 8 bits, so both sides are rounded
        np.testing.assert_array_equal(
            codec.decode(frame), codec.decode(codec.encode(name, expected))
        )


@pytest.mark.parametrize("name", CODECS)
def test_a_copy_of_a_journal_has_its_first_rows_and_a_life_of_its_own(name):
    journal = Journal()
    journal.append(rows(0, 4, name))
    twin = journal.copy(2)
    twin.append(rows(8, 9, name))
    journal.cut(1)
    assert twin.rows(0, 3) == frame_rows.join([rows(0, 2, name), rows(8, 9, name)])
    assert journal.rows(0, 1) == rows(0, 1, name)
    assert journal.size_bytes == rows(0, 1, name).row_bytes


def test_rows_given_out_do_not_change_when_the_journal_does():
    journal = Journal()
    journal.append(rows(0, 3))
    out = journal.rows(0, 3)
    journal.cut(0)
    journal.append(rows(5, 8))
    assert out == rows(0, 3)


def test_a_chunk_of_no_rows_changes_nothing():
    journal = Journal()
    journal.append(rows(0, 3))
    journal.append(rows(0, 0))
    journal.cut(2)
    assert journal.rows(0, 2) == rows(0, 2)


def test_an_empty_journal_can_be_cut_and_copied():
    journal = Journal()
    journal.cut(0)
    twin = journal.copy(0)
    twin.append(rows(0, 1))
    assert (journal.size_bytes, twin.size_bytes) == (0, 12)


@given(st.lists(st.integers(0, 2**53 - 1)), st.lists(st.integers(0, 2**53 - 1)))
def test_equal_digests_mean_equal_texts(one, other):
    assert (history_digest(one) == history_digest(other)) is (one == other)
    assert history_digest(one) == history_digest(tuple(one))


def test_the_digest_of_a_text_is_the_same_on_every_machine():
    plain = b"".join(token.to_bytes(8, "little") for token in (1, 2**40))
    assert history_digest([1, 2**40]) == hashlib.sha256(plain).hexdigest()
