"""Settings: the whole list, its ranges, and what a wrong one is told."""

from dataclasses import fields

import pytest

from manyhands.domain.settings import Settings, settings_from
from manyhands.errors import BadSetting

EVERY_SETTING = {
    "beat_every_s": 0.25,
    "silent_after_s": 0.75,
    "silent_factor": 4.0,
    "stuck_after_s": 30.0,
    "lease_s": 30.0,
    "load_deadline_s": 120.0,
    "recovery_deadline_s": 60.0,
    "stand_in_wait_s": 10.0,
    "forgive_after_s": 5.0,
    "recovery_attempts": 16,
    "dial_deadline_s": 5.0,
    "slowest_link_bytes_per_s": 125000.0,
    "chunk_tokens": 128,
    "window_chunks": 4,
    "step_credits": 64,
    "record_every_s": 5.0,
    "record_life_s": 30.0,
    "kv_bytes": 1073741824,
    "journal_bytes": 268435456,
    "context_limit": 0,
}
"""A new knob, or a new default, is a decision: add it here too, and to the documentation."""


def test_these_are_all_settings_and_their_defaults():
    assert {knob.name: getattr(Settings(), knob.name) for knob in fields(Settings)} == EVERY_SETTING


@pytest.mark.parametrize("knob", fields(Settings), ids=lambda knob: knob.name)
def test_every_setting_has_a_meaning_a_default_in_range_and_ends_that_are_checked(knob):
    low, high, meaning = (knob.metadata[key] for key in ("low", "high", "meaning"))
    assert meaning
    assert low <= knob.default <= high
    for value in (low, high):
        assert getattr(settings_from({knob.name: value}), knob.name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(BadSetting, match=f"{knob.name} is .* must be in"):
            settings_from({knob.name: value})


@pytest.mark.parametrize("value", ["5", None, True, [1]])
def test_a_setting_that_is_no_number_is_refused(value):
    with pytest.raises(BadSetting, match="must be a number"):
        settings_from({"lease_s": value})


def test_an_unknown_setting_is_refused_and_near_ones_are_named():
    with pytest.raises(BadSetting, match=r"no setting 'lease'.*lease_s"):
        settings_from({"lease": 3})
    with pytest.raises(BadSetting, match="kv_bytes"):
        settings_from({"xyz": 3})


def test_values_stand_over_defaults():
    assert settings_from({"chunk_tokens": 7}) == Settings(chunk_tokens=7)
    assert settings_from({}) == Settings()
