"""When a device gives, and why not: by its limits, whatever the machine looks like."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.giving import TOLD, Hours, Limits, Surroundings
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from manyhands.plan.giving import CHARGED_MORE, duty, is_held_by_others, pause, threads
from small_swarms import MODEL, peer_id, record, swarm

IDLE = Limits(when="idle", idle_after_s=60.0)
AWAY = Surroundings(idle_s=600.0)
ON_BATTERY = replace(AWAY, is_on_battery=True, charge=0.9)


@pytest.mark.parametrize(
    ("limits", "seen", "why"),
    [
        (Limits(), Surroundings(), ""),
        (Limits(), Surroundings(idle_s=0.0), ""),
        (IDLE, AWAY, ""),
        (IDLE, replace(AWAY, idle_s=60.0), ""),
        (IDLE, replace(AWAY, idle_s=59.9), "user"),
        (IDLE, replace(AWAY, idle_s=None), "unread"),
        (Limits(), ON_BATTERY, ""),
        (Limits(on_mains=True), ON_BATTERY, "mains"),
        (Limits(on_mains=True), AWAY, ""),
        (Limits(), replace(ON_BATTERY, charge=0.19), "battery"),
        (Limits(), replace(ON_BATTERY, charge=0.19, is_on_battery=False), ""),
        (Limits(), replace(ON_BATTERY, charge=None), ""),
        (Limits(hours=Hours(22 * 60, 7 * 60)), replace(AWAY, minute=12 * 60), "hours"),
        (Limits(hours=Hours(22 * 60, 7 * 60)), replace(AWAY, minute=23 * 60), ""),
    ],
)
def test_each_limit_pauses_by_its_own_name(limits, seen, why):
    assert pause(limits, seen, "") == why
    assert not why or TOLD[why]


def test_a_battery_that_was_low_must_be_charged_a_little_more():
    at = replace(ON_BATTERY, charge=Limits().least_charge + CHARGED_MORE / 2)
    assert pause(Limits(), at, "") == ""
    assert pause(Limits(), at, "battery") == "battery"
    assert pause(Limits(), replace(at, charge=0.26), "battery") == ""
    assert pause(Limits(), replace(at, is_on_battery=False), "battery") == ""


MINUTES = st.integers(0, 24 * 60 - 1)


@given(MINUTES, MINUTES, MINUTES)
def test_hours_and_the_rest_of_the_day_are_a_whole_day(first, last, minute):
    if first != last:
        assert (minute in Hours(first, last)) != (minute in Hours(last, first))


@given(st.floats(0.01, 1.0), st.integers(1, 64), st.none() | st.integers(1, 64))
def test_threads_and_their_time_together_are_the_share_that_was_allowed(share, cores, asked):
    limits = Limits(cpu_share=share)
    count = threads(limits, cores, asked)
    computing = min(count or cores, cores)
    used = computing * duty(limits, cores, count)
    assert used <= share * cores + 1e-9
    if asked is None:
        assert used == pytest.approx(share * cores)


def test_a_span_is_held_by_others_when_each_of_its_layers_is_by_one_that_gives():
    def holder(number, span, state="ready"):
        return replace(record(number), holdings=(Holding(MODEL, span, state),))

    me = holder(0, Span(0, 4))
    apart = swarm(me, holder(1, Span(0, 2)), holder(2, Span(2, 4), "stored"))
    assert is_held_by_others(apart, peer_id(0), MODEL, Span(0, 4))
    paused = swarm(me, holder(1, Span(0, 2)), holder(2, Span(2, 4), "draining"))
    assert not is_held_by_others(paused, peer_id(0), MODEL, Span(0, 4))
    assert is_held_by_others(paused, peer_id(0), MODEL, Span(0, 2))
