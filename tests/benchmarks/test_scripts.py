"""The scripts behind the claims of speed run to their end, with toy models: none rots unnoticed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from manyhands.engine.torch_blocks import profile

pytestmark = pytest.mark.timeout(300)
FOLDER = Path(__file__).parents[2] / "benchmarks"
TELLS_MEMORY = Path("/proc/self/status").exists()
NEAR_TIE = 2 * profile("a name", "bf16", "bf16", "bf16").tolerance
ONE_ROUND = ("--rounds", "1", "--tokens", "2")
SLOW = {
    "decode": (*ONE_ROUND, "--prompt", "8", "--forms", "int4"),
    "two_peers": ONE_ROUND,
    "giving": ("--rounds", "1", "--work", "0.2", "--stops", "1"),
    "replicas": (*ONE_ROUND, "--sessions", "2"),
    "predictions": ("--peers", "1", "--runs", "1", "--tokens", "4"),
    "seventy": ("--blocks", "8", "--peers", "3", "--memory", "2MB", "--runs", "1", "--one"),
    "pieces": ("--rounds", "1", "--layers", "1", "--rates", "125e6", "0"),
    "network": ("--seconds", "0.6", "--cases", "20:100"),
    "measure": ("--turns", "1", "--rounds", "1", "--models", "443M", "--cases", "torch:bf16"),
}
if TELLS_MEMORY:
    SLOW["span_memory"] = ("--kv-mb", "2")


def run(script: str, *words: str) -> str:
    """What it prints."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{script}.py"), "--small", *words],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def rows(printed: str) -> list[list[str]]:
    """The cells of its tables, without heads."""
    lines = [line for line in printed.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("script", SLOW)
def test_a_script_measures_a_toy(script):
    head, *body = rows(run(script, *SLOW[script]))
    assert body
    assert all(len(row) == len(head) for row in body)


@pytest.mark.slow
def test_many_sessions_are_measured_and_their_texts_part_at_near_ties_only():
    told = run("many_sessions", "--rounds", "1", "--threads", "1", "--clock", "cpu")
    head, row = rows(told)
    assert len(row) == len(head)
    same, gaps = re.search(r"texts as alone: (\d+) of 8; else (.*)", told).groups()
    parted = [float(gap) for gap in re.findall(r"gap ([\d.]+)", gaps)]
    assert int(same) + len(parted) == 8
    assert all(gap < NEAR_TIE for gap in parted)


@pytest.mark.slow
def test_sums_are_measured_and_what_a_tensor_split_would_be_is_told():
    told = rows(run("all_reduce", "--rounds", "1", "--sums", "20", "--widths", "64"))
    assert [len(row) for row in told] == [6] * 2 + [8] * 7


@pytest.mark.slow
def test_the_whole_bench_measures_every_part_and_draws_it(tmp_path):
    quick = (*ONE_ROUND, "--threads", "1", "--forms", "bf16", "int8")
    printed = run("bench", *quick, "--to", str(tmp_path))
    parts = {"decode", "prefill", "batch", "context", "overhead"}
    parts |= {"memory"} if TELLS_MEMORY else set()
    report = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert {one["part"] for one in report["figures"]} == parts
    sides = {(one["part"], one["side"]) for one in report["figures"]}
    assert {("decode", side) for side in ("ours", "sdpa", "eager", "reading", "weights")} <= sides
    assert all(value > 0 for one in report["figures"] for value in one["values"])
    page = (tmp_path / "rows.md").read_text("utf-8")
    assert printed.startswith(page)
    assert page.count("###") == len(parts)
    picture = ET.parse(tmp_path / "plot.svg").getroot()
    assert len(picture.findall(".//{*}g")) == len(parts) + 1  # decoding has two panels


@pytest.mark.slow
def test_one_part_can_be_asked_for(tmp_path):
    run("bench", "--only", "overhead", "--forms", "int4", "--rounds", "1", "--to", str(tmp_path))
    report = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert {one["part"] for one in report["figures"]} == {"overhead"}


def test_the_processors_clock_is_refused_for_several_threads():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "bench.py"), "--clock", "cpu", "--threads", "2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--threads 1" in done.stderr
