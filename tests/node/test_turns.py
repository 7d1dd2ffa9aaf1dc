"""Steps that wait: each session's in order, turns for all, and gone when nobody wants them."""

from __future__ import annotations

from manyhands.domain.ids import SessionId
from manyhands.node.turns import Turns

A, B, C = ((SessionId(name * 32), 0) for name in "abc")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def turns_of(clock: Clock | None = None) -> Turns[str]:
    return Turns(clock or Clock(), 128)


def taken(turns: Turns[str]) -> list[str]:
    found = turns.take(lambda _: 1)
    turns.served([place for place, _ in found], 0.1)
    return [what for _, what in found]


def test_a_session_s_steps_keep_their_order_and_run_one_at_a_time():
    turns = turns_of()
    for what in ("a1", "a2"):
        turns.add(A, 1, 1, what)
    turns.add(B, 1, 1, "b1")
    assert bool(turns)
    assert taken(turns) == ["a1", "b1"]
    assert turns.waiting() == {A[0]}
    assert taken(turns) == ["a2"]
    assert not turns
    assert turns.waiting() == set()


def test_steps_of_epochs_that_are_over_vanish_and_those_of_the_new_one_stay():
    turns = turns_of()
    for epoch in (1, 1, 2):
        turns.add(A, epoch, 1, f"epoch {epoch}")
    turns.add(B, 1, 1, "b")
    assert turns.drop(A[0], before_epoch=2) == ["epoch 1", "epoch 1"]
    assert taken(turns) == ["epoch 2", "b"]


def test_a_closed_session_leaves_nothing_at_any_of_its_stages():
    turns = turns_of()
    turns.add(A, 1, 1, "a")
    turns.add((A[0], 2), 1, 1, "a at another stage")
    assert turns.drop(A[0]) == ["a", "a at another stage"]
    assert not turns
    assert turns.drop(A[0]) == []


def test_prompts_go_on_by_turns():
    turns = turns_of()
    for number in range(3):
        for place in (A, B):
            turns.add(place, 1, 128, f"{place[0][0]}{number}")
    assert [taken(turns) for _ in range(6)] == [["a0"], ["b0"], ["a1"], ["b1"], ["a2"], ["b2"]]


def test_a_newcomer_waits_for_its_turn():
    turns = turns_of()
    turns.add(A, 1, 128, "a0")
    assert taken(turns) == ["a0"]
    turns.add(A, 1, 128, "a1")
    turns.add(B, 1, 128, "b0")
    turns.add(C, 1, 128, "c0")
    assert [taken(turns) for _ in range(3)] == [["a1"], ["b0"], ["c0"]]


def test_who_usually_comes_back_at_once_is_waited_for_a_moment():
    clock = Clock()
    turns = turns_of(clock)
    for place in (A, B):
        turns.add(place, 1, 1, "first")
    taken(turns)  # a step takes 0.1 s
    assert turns.patience_s() == 0.0  # nobody knows yet when they come back
    clock.now_s += 0.004
    for place in (A, B):
        turns.add(place, 1, 1, "second")
    assert turns.patience_s() == 0.0  # all are here
    taken(turns)
    turns.add(A, 1, 1, "third")
    assert 0.004 < turns.patience_s() < 0.01
    clock.now_s += 0.01
    assert turns.patience_s() == 0.0  # late: the others do not wait on
    turns.drop(B[0])
    taken(turns)
    clock.now_s += 0.001
    assert turns.patience_s() > 0.0
    turns.drop(A[0])
    assert turns.patience_s() == 0.0  # closed: nobody waits for it


def test_nobody_waits_for_a_session_that_takes_long_to_come_back():
    clock = Clock()
    turns = turns_of(clock)
    for _ in range(3):
        turns.add(A, 1, 1, "a")
        taken(turns)
        clock.now_s += 0.5
    turns.add(A, 1, 1, "a")
    taken(turns)
    turns.add(B, 1, 1, "b")
    assert turns.patience_s() == 0.0
