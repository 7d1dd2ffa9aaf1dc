"""Bytes and computing over a time stay within what is allowed, whatever the sizes."""

import pytest

from manyhands.node.allowance import BURST_S, Allowance


class Time:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_without_limits_nothing_waits():
    allowance = Allowance(Time())
    allowance.sent(10**12)
    allowance.computed(100.0)
    assert allowance.wait_s() == 0


@pytest.mark.parametrize("size", [100, 5_000, 70_000])
def test_what_is_sent_over_a_time_is_the_rate_and_one_burst(size):
    time = Time()
    allowance = Allowance(time)
    allowance.upload_bytes_per_s = 10_000.0
    total = 0
    while time.now_s < 200.0:
        time.now_s += allowance.wait_s()
        allowance.sent(size)
        total += size
        time.now_s += 1e-4
    most = 10_000 * (time.now_s - 100.0 + BURST_S) + size
    assert 0.9 * 10_000 * (time.now_s - 100.0) < total <= most


def test_half_the_time_is_rested():
    time = Time()
    allowance = Allowance(time)
    allowance.share = 0.25
    time.now_s += 2.0
    allowance.computed(2.0)
    assert allowance.wait_s() == pytest.approx(6.0)
    time.now_s += 6.0
    assert allowance.wait_s() == 0
