"""Thousands of whole swarms from seeds: nothing untrue is spoken, nothing hangs, nothing leaks."""

import subprocess
import sys
from pathlib import Path

import pytest

from hash_swarm import MODEL
from manyhands.sim.scenario import play
from manyhands.sim.schedule import Mode, breach, scenario

BATCH = 25


def check(mode: Mode, first: int, count: int) -> None:
    found = [breach(seed, mode, MODEL) for seed in range(first, first + count)]
    assert [what for what in found if what] == []


@pytest.mark.parametrize("mode", ["safety", "liveness"])
@pytest.mark.parametrize("first", [0, pytest.param(BATCH, marks=pytest.mark.slow)])
def test_a_hundred_schedules_keep_their_promises(mode: Mode, first: int) -> None:
    check(mode, first, BATCH)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["safety", "liveness"])
@pytest.mark.parametrize("first", range(1000, 6000, 250))
def test_ten_thousand_schedules_keep_their_promises(mode: Mode, first: int) -> None:
    check(mode, first, 250)


def test_the_same_seed_gives_the_same_trace() -> None:
    for seed in (3, 13):
        drawn = scenario(seed, "safety")
        one, two = play(drawn, MODEL), play(drawn, MODEL)
        assert (one.spoken, one.trace, one.virtual_s) == (two.spoken, two.trace, two.virtual_s)
        assert str(one.error) == str(two.error)


def test_another_process_with_another_hash_seed_gives_the_same_trace() -> None:
    script = (
        "from hash_swarm import MODEL; from manyhands.sim.scenario import play; "
        "from manyhands.sim.schedule import scenario; "
        "print([play(scenario(seed, 'safety'), MODEL).trace for seed in (3, 13)])"
    )
    tests = str(Path(__file__).parents[1])
    traces = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={
                "PYTHONPATH": tests,
                "PYTHONHASHSEED": seed,
                "PATH": "",
                "SYSTEMROOT": "C:\\Windows",
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(traces) == 1


def test_different_seeds_give_different_traces() -> None:
    assert play(scenario(3, "safety"), MODEL).trace != play(scenario(4, "safety"), MODEL).trace
