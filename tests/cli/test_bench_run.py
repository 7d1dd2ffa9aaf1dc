"""A bench really runs a model, and sets beside it what was predicted."""

import io

import pytest
from rich.console import Console

import tiny
from manyhands.cli.bench_run import run_bench, show
from manyhands.errors import CheckpointError, NotServed


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    told = []
    folder = tiny.make("llama", tmp_path_factory.mktemp("llama"))
    report = run_bench(folder, rounds=3, engine="numpy", told=told.append)
    assert told[0] == "measuring this machine"
    return report


def test_a_bench_runs_the_model_and_predicts_it(report):
    assert (report.measured.engine, report.measured.dtype) == ("numpy", "fp32")
    assert (report.rounds, report.prompt_tokens, report.answer_tokens) == (3, 128, 16)
    for rate in (report.prompt, report.decode):
        assert 0 < rate.slowest <= rate.tok_s <= rate.quickest
        assert rate.predicted > 0
    assert report.prompt.tok_s > report.decode.tok_s


def test_it_is_shown_within_80_columns(report):
    said = io.StringIO()
    show(report, Console(file=said, width=80))
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("answer") for line in lines)
    assert any("predicted" in line for line in lines)


def test_what_answers_with_no_text_is_refused_before_anything_is_measured(tmp_path):
    told = []
    with pytest.raises(NotServed, match=r"is an encoder.*hands serve"):
        run_bench(tiny.make("bert", tmp_path), told=told.append)
    assert not told


def test_a_folder_without_a_model_is_refused_before_anything_is_measured(tmp_path):
    told = []
    with pytest.raises(CheckpointError):
        run_bench(tmp_path, told=told.append)
    assert told == []
