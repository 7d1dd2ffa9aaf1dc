"""Limits as typed: read with their units, refused with how to write them."""

from math import inf

import pytest

from manyhands.cli.limits import LimitOptions, Sparing, read_hours, read_limits, read_share
from manyhands.domain.admission import RunningModel
from manyhands.domain.giving import Hours, Limits
from manyhands.domain.ids import ModelId
from manyhands.errors import BadSetting, UserError


def test_nothing_typed_limits_nothing():
    assert read_limits(LimitOptions()) == Limits()
    assert Limits().upload_bytes_per_s == inf


def test_all_that_can_be_typed_is_read():
    typed = LimitOptions(
        when="idle", idle_after="2m", on_mains=True, hours="22-07", max_cpu="50%", max_upload="5M"
    )
    assert read_limits(typed) == Limits(
        "idle", 120.0, True, Hours(22 * 60, 7 * 60), 0.2, 0.5, 5 * 2.0**20
    )


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("22-07", Hours(1320, 420)),
        ("9-17", Hours(540, 1020)),
        ("22:30-06:15", Hours(1350, 375)),
        ("0-24", Hours(0, 1440)),
        (" 8-0 ", Hours(480, 0)),
    ],
)
def test_hours_may_have_minutes_and_pass_midnight(text, hours):
    assert read_hours(text) == hours


@pytest.mark.parametrize(
    "text", ["", "22", "22-", "24-7", "7-25", "7-7", "7:60-8", "7-24:01", "a-b"]
)
def test_what_are_no_hours_is_told_how_to_write_them(text):
    with pytest.raises(UserError, match="write them as 22-07"):
        read_hours(text)


@pytest.mark.parametrize("text", ["", "50", "0%", "0.5%", "101%", "-5%", "half"])
def test_a_share_of_the_cores_is_a_percentage(text):
    assert read_share("12.5%") == 0.125
    with pytest.raises(UserError, match="as 50%"):
        read_share(text)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (LimitOptions(when="away"), "must be always or idle"),
        (LimitOptions(idle_after="soon"), "write one as 90s"),
        (LimitOptions(idle_after="2d"), "idle_after_s is"),
        (LimitOptions(max_upload="fast"), "write one as 4G"),
        (LimitOptions(max_upload="10"), "upload_bytes_per_s is"),
        (LimitOptions(when="idle", idle_from="file:/no/such/file"), "cannot be read here"),
        (LimitOptions(idle_from="file:/no/such/file"), "--when idle"),
    ],
)
def test_the_rest_is_told_before_anybody_hears_of_us(typed, said):
    with pytest.raises((UserError, BadSetting), match=said):
        Sparing(typed, is_child=False)


def test_low_priority_is_usual_but_for_processes_of_our_own():
    assert Sparing(LimitOptions(), is_child=False).is_low
    assert not Sparing(LimitOptions(), is_child=True).is_low
    assert Sparing(LimitOptions(low_priority=True), is_child=True).is_low
    assert not Sparing(LimitOptions(low_priority=False), is_child=False).is_low


def test_threads_are_limited_where_the_engine_can_be_told():
    half = Sparing(LimitOptions(max_cpu="1%"), is_child=False)

    def running(engine: str, dtype: str) -> RunningModel:
        return RunningModel(ModelId("0d" * 32), "tiny", engine, dtype)

    assert half.threads(running("torch", "bf16"), None) == 1
    assert half.threads(running("numpy", "int4"), None) == 1
    assert half.threads(running("numpy", "fp32"), None) is None
    assert Sparing(LimitOptions(), is_child=False).threads(running("torch", "bf16"), 7) == 7
