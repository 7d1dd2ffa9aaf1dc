"""Suspicions: whoever failed a session is avoided for a while, and then forgiven."""

from __future__ import annotations

from manyhands.errors import ResourceError
from manyhands.node.setback import Setback, Suspicions
from node_cases import ANNA, BEN


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_setback_says_who_was_lost_and_why():
    cause = ResourceError("no room")
    setback = Setback("reason", lost=frozenset({ANNA}), cause=cause)
    assert str(setback) == "reason"
    assert (setback.lost, setback.broken, setback.cause) == (frozenset({ANNA}), frozenset(), cause)
    assert setback.said_by is None


def test_who_only_complains_is_not_suspected_for_it():
    suspicions = Suspicions(Clock(), forgive_after_s=5.0)
    complaint = Setback("a gap", said_by=BEN)
    suspicions.add(complaint)
    assert complaint.said_by == BEN
    assert suspicions.peers() == suspicions.links() == frozenset()


def test_what_a_setback_names_is_suspected_until_it_is_forgiven():
    clock = Clock()
    suspicions = Suspicions(clock, forgive_after_s=5.0)
    assert suspicions.peers() == suspicions.links() == frozenset()
    suspicions.add(Setback("one", lost=frozenset({ANNA})))
    clock.now_s += 3.0
    suspicions.add(Setback("two", broken=frozenset({(ANNA, BEN)})))
    assert suspicions.peers() == {ANNA}
    assert suspicions.links() == {(ANNA, BEN)}
    clock.now_s += 2.0
    assert suspicions.peers() == frozenset()
    assert suspicions.links() == {(ANNA, BEN)}
    clock.now_s += 3.0
    assert suspicions.links() == frozenset()


def test_failing_again_begins_the_time_anew():
    clock = Clock()
    suspicions = Suspicions(clock, forgive_after_s=5.0)
    suspicions.add(Setback("one", lost=frozenset({ANNA})))
    clock.now_s += 4.0
    suspicions.add(Setback("two", lost=frozenset({ANNA, BEN})))
    clock.now_s += 4.0
    assert suspicions.peers() == {ANNA, BEN}


def test_a_setback_that_names_nobody_leaves_suspicions_as_they_are():
    clock = Clock()
    suspicions = Suspicions(clock, forgive_after_s=5.0)
    suspicions.add(Setback("one", lost=frozenset({ANNA})))
    suspicions.add(Setback("nobody's fault"))
    assert suspicions.peers() == {ANNA}
