"""The command itself: help and version at once, errors of the command line, nothing imported."""

import json
import subprocess
import sys

import pytest

import manyhands

DEADLINE_S = 60.0
VERBS = ("join", "run", "serve", "chat", "status", "demo", "bench")


def hands(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "manyhands.cli.app", *words],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def test_help_names_every_verb_and_loads_none_of_them():
    code = (
        "import json, sys\n"
        "from manyhands.cli.app import app\n"
        "try:\n"
        "    app(['--help'])\n"
        "finally:\n"
        "    print(json.dumps(sorted(sys.modules)))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    *shown, loaded = told.stdout.splitlines()
    for verb in VERBS:
        assert any(line.split()[:1] == [verb] for line in shown), verb
    heavy = {"torch", "numpy", "fastapi", "uvicorn", "tokenizers", "cryptography", "asyncio"}
    assert heavy.isdisjoint(json.loads(loaded))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_of_its_own(verb):
    from typer.testing import CliRunner

    from manyhands.cli.app import app

    told = CliRunner().invoke(app, [verb, "-h"])
    assert told.exit_code == 0, told.output
    assert f"{verb} [OPTIONS]" in told.output


def test_the_version_is_the_packages():
    told = hands("--version")
    assert (told.returncode, told.stdout) == (0, f"manyhands {manyhands.__version__}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jion"], "No such command"),
        (["pull"], "Missing argument"),
        (["join", "host", "--invited", "x"], "No such option"),
        (["join", "host", "--port", "many"], "--port"),
    ],
)
def test_a_wrong_command_line_ends_with_2(words, said):
    told = hands(*words)
    assert told.returncode == 2
    assert said.lower() in told.stderr.lower()
    assert "Traceback" not in told.stderr


def test_no_words_show_the_help():
    told = hands()
    assert "join" in told.stdout + told.stderr
    assert "Traceback" not in told.stderr
