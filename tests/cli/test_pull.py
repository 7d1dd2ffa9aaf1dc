"""The verb `pull`: a folder in another format, or an error that says what to do."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from verbs import done

import tiny
from manyhands.store.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make("llama-tied", tmp_path_factory.mktemp("model") / "m")


def test_pull_writes_a_folder_that_runs(model, tmp_path):
    target = tmp_path / "new" / "m8"
    ran = done("pull", str(model), "--format", "int8", "--to", str(target), "--json", home=tmp_path)
    assert ran.returncode == 0, ran.stderr
    begun, ended = (json.loads(line) for line in ran.stdout.splitlines())
    assert begun["event"] == "converting"
    assert ended["event"] == "converted"
    assert ended["after_bytes"] < 0.3 * ended["before_bytes"]
    Checkpoint.open(target).check()


def test_a_name_of_the_hub_an_unknown_format_and_a_folder_that_is_there_are_told(model, tmp_path):
    for words, told in (
        (("org/name", "--to", str(tmp_path / "x")), "download the folder first"),
        ((str(model), "--format", "int3", "--to", str(tmp_path / "x")), "must be int8, int4, bf16"),
        ((str(model), "--to", str(model)), "is there already"),
    ):
        ran = done("pull", *words, home=tmp_path)
        assert ran.returncode == 2
        assert told in ran.stderr
        assert "Traceback" not in ran.stderr
    assert not (tmp_path / "x").exists()


def test_low_rank_is_searched_by_a_text_and_told(model, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(tiny.SENTENCES * 8), encoding="utf-8")
    words = ("pull", str(model), "--format", "int4", "--low-rank-budget")
    target = ("--to", str(tmp_path / "m4"))
    ran = done(*words, "0.01", "--calibration", str(text), *target, home=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "No matrix has so low a rank" in ran.stdout
    Checkpoint.open(tmp_path / "m4").check()
    for more, told in (
        (("0.1",), "belong together"),
        (("2", "--calibration", str(text)), "must be between 0 and 1"),
        (("0.1", "--calibration", str(tmp_path / "none")), "cannot be read"),
    ):
        ran = done(*words, *more, "--to", str(tmp_path / "new"), home=tmp_path)
        assert ran.returncode == 2
        assert told in ran.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_while_converting_leaves_nothing(model, tmp_path):
    place = tmp_path / "place"
    code = (
        "import sys, time; from manyhands.node import conversion; from manyhands.cli import app;"
        "old = conversion.quantise;"
        "conversion.quantise = lambda *a: (print('begun', flush=1), time.sleep(1), old(*a))[2];"
        f"sys.argv = ['hands', 'pull', {str(model)!r}, '--to', {str(place / 'm')!r}]; app.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "MANYHANDS_HOME": str(tmp_path)},
    ) as process:  # fmt: skip
        while "begun" not in process.stdout.readline():
            time.sleep(0.01)
        assert [entry.name[:12] for entry in place.iterdir()] == [".unfinished-"]
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=50)
    assert process.returncode == 130, complaints
    assert "Traceback" not in complaints
    assert not list(place.iterdir())
