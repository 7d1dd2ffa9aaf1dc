"""A slowed process gets its part of the time, and all of it afterwards."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from manyhands.sim.slowing import slowed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows stops nobody")

BUSY = "while True: pass"


def stopped_share(process: psutil.Process, seconds: float) -> float:
    """In how many of many looks it was stopped."""
    looks, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        looks.append(process.status() == psutil.STATUS_STOPPED)
        time.sleep(0.0013)
    return sum(looks) / len(looks)


def test_it_is_stopped_for_the_rest_of_the_time_and_never_left_stopped():
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            looked_at = psutil.Process(process.pid)
            with slowed(process.pid, 0.3):
                # one that waits for a processor is not stopped before it has had it
                assert 0.02 < stopped_share(looked_at, 0.6) < 0.98
            assert stopped_share(looked_at, 0.1) == 0
        finally:
            process.kill()


def test_one_that_ends_meanwhile_is_nobodys_fault():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        with slowed(process.pid):
            time.sleep(0.02)
