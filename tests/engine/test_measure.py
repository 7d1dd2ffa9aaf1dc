"""Measuring this machine: figures from a real child process, and what comes of one that fails."""

import json
import math
import os
import signal
import sys
import threading
import time

import pytest

from manyhands.engine.choice import free_memory_bytes
from manyhands.engine.measure import measure
from manyhands.errors import BadSetting, ResourceError

FEW_BYTES = 1 << 24
FIGURES = {
    "engine": "numpy",
    "dtype": "fp32",
    "bytes_per_number": 4.0,
    "bytes_per_kv": 4.0,
    "read_bytes_per_s": 1e10,
    "flops_per_s": 1e11,
    "overhead_s": 1e-4,
}


@pytest.fixture
def child(tmp_path):
    """A child that runs these lines; `wanted` is what it was asked for, `say` prints figures."""

    def made(*lines: str):
        script = tmp_path / "child.py"
        head = (
            "import json, sys, time",
            "wanted = json.loads(sys.argv[1])",
            f"def say(**changes): print(json.dumps({{**{FIGURES!r}, **changes}}))",
        )
        script.write_text("\n".join((*head, *lines)), encoding="utf-8")
        return sys.executable, str(script)

    return made


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_a_weight_format_is_measured_as_it_would_run(engine, form):
    got = measure(engine, dtype=form, threads=1, weight_bytes=FEW_BYTES)
    assert (got.engine, got.dtype, got.bytes_per_kv) == (engine, form, 2.0)
    assert got.bytes_per_number == pytest.approx({"int8": 1.0625, "int4": 0.5625}[form], rel=0.03)


def test_a_format_whose_kernels_fail_is_measured_with_numpy_and_says_so(child):
    lines = ("if wanted['engine'] != 'numpy': sys.exit(1)", "say(dtype=wanted['dtype'])")
    got = measure("auto", dtype="int8", threads=2, child=child(*lines))
    assert (got.engine, got.dtype, got.threads) == ("numpy", "int8", 2)
    assert "numpy was measured" in got.note


@pytest.mark.parametrize(("engine", "dtype"), [("numpy", "fp32"), ("torch", "fp32")])
def test_an_engine_is_measured_in_a_child(engine, dtype):
    got = measure(engine, dtype=dtype, weight_bytes=FEW_BYTES)
    assert (got.engine, got.dtype, got.bytes_per_number, got.note) == (engine, dtype, 4.0, "")
    device = got.device
    assert 1e6 < device.read_bytes_per_s < 1e14
    assert 1e6 < device.flops_per_s < 1e17
    assert 0 < device.overhead_s < 1
    assert device.memory_bytes > 0
    assert 0 < got.took_s < 60
    assert 0 <= got.busy <= 1


def test_a_folder_with_a_module_named_as_pythons_own_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit(9)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert measure("numpy", weight_bytes=FEW_BYTES).engine == "numpy"


@pytest.mark.parametrize("asked", [{"engine": "abacus"}, {"engine": "numpy", "dtype": "bf16"}])
def test_a_setting_that_no_engine_follows_is_refused_by_name(asked):
    with pytest.raises(BadSetting, match=r"abacus|bf16"):
        measure(**asked, weight_bytes=FEW_BYTES)


def test_what_a_library_prints_before_the_figures_does_no_harm(child):
    got = measure(child=child("print('a warning')", "say()"))
    assert got.device.read_bytes_per_s == 1e10
    assert got.threads is None


def test_threads_and_bytes_asked_for_reach_the_child(child):
    lines = "say(read_bytes_per_s=float(wanted['weight_bytes'] + wanted['threads']))"
    got = measure("torch", threads=3, weight_bytes=1000, child=child(lines))
    assert (got.device.read_bytes_per_s, got.threads) == (1003.0, 3)


def test_without_torch_nothing_changes_but_the_engine(child):
    got = measure("numpy", child=child("say(engine=wanted['engine'])"))
    assert got.engine == "numpy"


def test_an_engine_that_crashes_is_told_and_numpy_measured_instead(child):
    lines = "sys.exit('illegal instruction') if wanted['engine'] == 'auto' else say()"
    got = measure("auto", dtype="bf16", threads=2, child=child(lines))
    assert got.engine == "numpy"
    assert got.threads is None
    assert "the usual engine failed" in got.note
    assert "exit status 1: illegal instruction" in got.note


def test_an_engine_that_was_named_and_crashes_is_an_error(child):
    with pytest.raises(ResourceError, match="torch ended with exit status 3: no such kernel"):
        measure("torch", child=child("print('no such kernel', file=sys.stderr)", "sys.exit(3)"))


@pytest.mark.skipif(sys.platform == "win32", reason="there a crash is an exit status")
def test_a_child_that_is_killed_is_an_error_with_its_signal(child):
    with pytest.raises(ResourceError, match="ended with signal 9"):
        measure("numpy", child=child("import os", "os.kill(os.getpid(), 9)"))


def test_a_child_that_crashes_whatever_it_is_asked_is_an_error(child):
    with pytest.raises(ResourceError, match="with numpy ended with exit status 1"):
        measure("auto", child=child("sys.exit(1)"))


@pytest.mark.parametrize(
    "changes",
    [
        {"read_bytes_per_s": math.nan},
        {"read_bytes_per_s": math.inf},
        {"flops_per_s": -1.0},
        {"flops_per_s": 0.0},
        {"overhead_s": None},
        {"bytes_per_number": "4"},
        {"engine": 7},
        {"dtype": None},
    ],
)
def test_figures_no_machine_has_are_an_error(child, changes):
    text = json.dumps({**FIGURES, **changes})
    with pytest.raises(ResourceError, match="measuring with numpy"):
        measure("numpy", child=child(f"print({text!r})"))


@pytest.mark.parametrize("said", ["", "[1]", "{", "figures: many"])
def test_what_is_no_object_is_an_error(child, said):
    with pytest.raises(ResourceError, match="measuring with numpy"):
        measure("numpy", child=child(f"print({said!r})"))


def test_a_child_that_hangs_ends_with_the_deadline(child):
    start = time.monotonic()
    with pytest.raises(ResourceError, match="not done after 1 s"):
        measure("auto", 1.0, child=child("time.sleep(600)"))
    assert time.monotonic() - start < 30


def test_a_child_that_does_not_start_is_an_error(tmp_path):
    with pytest.raises(ResourceError, match="does not start"):
        measure(child=(str(tmp_path / "no-python"),))


def test_memory_that_is_free_is_more_than_none():
    assert free_memory_bytes() > 2**20


def test_measuring_is_stopped_and_its_child_with_it(child, tmp_path):
    file = tmp_path / "pid"
    asleep = child(
        "import os, pathlib", f"pathlib.Path({str(file)!r}).write_text(str(os.getpid()))",
        "time.sleep(600)",
    )  # fmt: skip
    stop, failed = threading.Event(), []

    def work():
        try:
            measure("numpy", deadline_s=600, child=asleep, stop=stop)
        except ResourceError as error:
            failed.append(str(error))

    working = threading.Thread(target=work)
    working.start()
    until_s = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    pid = int(file.read_text())
    if os.name == "posix":
        assert os.getsid(pid) != os.getsid(0)  # a Ctrl-C in our terminal is not for the child
    stop.set()
    working.join(60)
    assert failed == ["measuring this machine was stopped"]
    if os.name == "posix":
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
