"""The verb `bench`: plain data or a table, of the folder that is named."""

import json

import pytest
import typer
from typer.testing import CliRunner

import tiny
from manyhands.cli.bench import bench
from manyhands.errors import CheckpointError


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(bench)

    def call(*arguments: str):
        return CliRunner().invoke(app, arguments)

    return call


def test_bench_prints_plain_data_of_a_folder(run, tmp_path):
    folder = tiny.make("qwen3", tmp_path / "m", dtype="bfloat16")
    done = run(str(folder), "--rounds", "2", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["rounds"] == 2
    assert told["measured"]["engine"] == "torch"
    assert told["decode"]["tok_s"] > 0
    assert told["decode"]["predicted"] > 0


def test_a_folder_that_is_not_there_is_the_users_error(run, tmp_path):
    done = run(str(tmp_path / "nothing"))
    assert isinstance(done.exception, CheckpointError)


def test_no_rounds_at_all_are_refused(run):
    assert run("--rounds", "0").exit_code == 2
