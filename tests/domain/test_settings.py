"""Settings: the whole list, its ranges, and what a wrong one is told."""

import math
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from manyhands.domain.settings import Settings, settings_from
from manyhands.errors import BadSetting

EVERY_SETTING = {
    "beat_every_s": 0.25,
    "silent_after_s": 0.75,
    "silent_factor": 4.0,
    "confirm_within_s": 0.01,
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
    "chunk_delay_s": 0.05,
    "admission_wait_s": 10.0,
    "keep_s": 300.0,
    "step_credits": 64,
    "record_every_s": 5.0,
    "record_life_s": 30.0,
    "survey_every_s": 300.0,
    "move_gain": 0.1,
    "settle_s": 60.0,
    "drain_s": 120.0,
    "invite_life_s": 86400.0,
    "approval_wait_s": 120.0,
    "certificate_life_s": 2592000.0,
    "kv_bytes": 1073741824,
    "journal_bytes": 268435456,
    "fetch_wait_s": 60.0,
    "fetched_bytes": 0,
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
        with pytest.raises(BadSetting, match=f"{knob.name} is .* must be .* in .*{meaning}"):
            settings_from({knob.name: value})


@pytest.mark.parametrize("value", ["5", None, True, [1], 1j, Decimal(5)])
def test_a_setting_that_is_no_number_is_refused(value):
    with pytest.raises(BadSetting, match=r"lease_s is .*must be a number in \[0\.1, 86400\]"):
        settings_from({"lease_s": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, Fraction(10**400)])
def test_a_number_that_no_float_can_hold_is_out_of_range(value):
    with pytest.raises(BadSetting, match="lease_s is"):
        Settings(lease_s=value)


@pytest.mark.parametrize("name", ["chunk_tokens", "kv_bytes", "recovery_attempts"])
@pytest.mark.parametrize("value", [1.5, 128.0, 1e6, True, "128", None, np.float64(128)])
def test_a_whole_setting_takes_no_fraction(name, value):
    with pytest.raises(BadSetting, match=f"{name} is .*must be a whole number in"):
        Settings(**{name: value})


def test_numbers_of_any_make_are_kept_as_plain_ones():
    settings = Settings(chunk_tokens=np.int64(7), lease_s=np.float32(0.5), record_life_s=2)
    kept = (settings.chunk_tokens, settings.lease_s, settings.record_life_s)
    assert kept == (7, 0.5, 2.0)
    assert [type(value) for value in kept] == [int, float, float]


def test_an_unknown_setting_is_refused_and_near_ones_are_named():
    with pytest.raises(BadSetting, match=r"no setting 'lease'.*lease_s"):
        settings_from({"lease": 3})
    with pytest.raises(BadSetting, match=r"'kv_byte'; did you mean one of kv_bytes"):
        settings_from({"kv_byte": 3})
    with pytest.raises(BadSetting, match=r"no setting 7; did you mean one of .*kv_bytes"):
        settings_from({7: 3})
    with pytest.raises(BadSetting, match=r"chunk_tokens.*kv_bytes"):
        settings_from({"xyz": 3})


@pytest.mark.parametrize("values", [None, [("kv_bytes", 2**20)], "kv_bytes", Settings()])
def test_what_is_no_mapping_is_no_list_of_settings(values):
    with pytest.raises(BadSetting, match="map names to numbers"):
        settings_from(values)


def test_values_stand_over_defaults():
    assert settings_from({"chunk_tokens": 7}) == Settings(chunk_tokens=7)
    assert settings_from({}) == Settings()
