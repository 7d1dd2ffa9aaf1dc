"""Measured once, remembered for a week: of this machine as it is now; of a busy one for minutes."""

import os
import threading
from dataclasses import replace

import pytest

from manyhands.domain.device import Device
from manyhands.engine.measure import Measured, measure
from manyhands.engine.remembered import KEPT_BUSY_S, KEPT_S, measured_here
from manyhands.errors import ResourceError
from manyhands.node.live import wall_clock

FOUND = Measured(Device("cpu", 1, 2e10, 3e11, 1e-5), "numpy", "fp32", None, 4.0, 4.0, 1.5)


class Measuring:
    """Figures from a list, and how often they were asked for."""

    def __init__(self, *figures):
        self.figures, self.asked = list(figures), []

    def __call__(self, engine, *, dtype, threads, stop):
        self.asked.append((engine, dtype, threads))
        return self.figures.pop(0)


def test_what_was_measured_is_remembered_for_its_engine_dtype_and_threads(tmp_path):
    other = replace(FOUND, dtype="bf16", threads=1)
    measuring = Measuring(FOUND, other)
    measured_here("numpy", "auto", None, wall_clock, folder=tmp_path, measuring=measuring)
    for _ in range(3):
        found = measured_here(
            "numpy", "auto", None, wall_clock, folder=tmp_path, measuring=measuring
        )
        assert found.device.read_bytes_per_s == 2e10
        assert found.device.memory_bytes > 1 << 20  # what is free now, not what was
    assert (
        measured_here("torch", "bf16", 1, wall_clock, folder=tmp_path, measuring=measuring) == other
    )
    assert measuring.asked == [("numpy", "auto", None), ("torch", "bf16", 1)]


def test_old_and_broken_figures_are_measured_anew_and_busy_ones_soon(tmp_path):
    measuring = Measuring(replace(FOUND, busy=0.9), FOUND, FOUND, FOUND)

    def ask():
        return measured_here(
            "numpy", "auto", None, wall_clock, folder=tmp_path, measuring=measuring
        )

    def aged(seconds):
        (kept,) = tmp_path.glob("*.json")
        then = kept.stat().st_mtime - seconds
        os.utime(kept, (then, then))
        return kept

    assert ask().busy == 0.9
    aged(KEPT_BUSY_S / 2)
    assert ask().busy == 0.9
    aged(KEPT_BUSY_S / 2)
    assert ask() == FOUND
    aged(KEPT_S / 2)
    assert ask().device.read_bytes_per_s == 2e10
    assert len(measuring.asked) == 2
    aged(KEPT_S / 2)
    assert ask() == FOUND
    aged(0).write_text('{"device": 7}')
    assert ask() == FOUND
    assert len(measuring.asked) == 4
    assert ask().device.read_bytes_per_s == 2e10
    assert len(measuring.asked) == 4


def test_two_that_ask_at_once_measure_once(tmp_path):
    measuring = Measuring(FOUND)
    found = []

    def ask():
        found.append(
            measured_here("numpy", "auto", None, wall_clock, folder=tmp_path, measuring=measuring)
        )

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(measuring.asked) == 1


def test_a_folder_that_cannot_be_written_costs_a_measurement_and_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    measuring = Measuring(FOUND)
    nowhere = tmp_path / "file" / "folder"
    assert (
        measured_here("numpy", "auto", None, wall_clock, folder=nowhere, measuring=measuring)
        == FOUND
    )


def test_this_machine_is_really_measured(tmp_path):
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(ResourceError, match="stopped"):
        measured_here(
            "numpy", "auto", None, wall_clock, folder=tmp_path, stop=stopped, measuring=measure
        )
    assert not list(tmp_path.glob("*.json"))
