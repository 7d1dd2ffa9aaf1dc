"""What is shown works as it is shown: the examples and the README's own lines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tiny

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make("llama", tmp_path_factory.mktemp("llama"))


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_with_a_folder_and_is_short(example: Path, folder) -> None:
    said = run(str(example), str(folder))
    assert said
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40


def test_the_demo_survives_its_loss_with_the_same_words() -> None:
    said = run(str(ROOT / "examples" / "three_peers.py"))
    assert "peer 1 is lost" in said
    assert "identical to an undisturbed run: yes" in said


def test_the_lines_of_the_readme_run(folder) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 1
    run("-c", blocks[0].replace("path/to/model", folder.as_posix()))
