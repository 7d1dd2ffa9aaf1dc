"""What is shown works as it is shown: the examples and the README's own lines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from verbs import Verb

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A running `hands serve`."""
    ports = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")
    with Verb("serve", *ports, home=tmp_path_factory.mktemp("home")) as verb:
        yield verb.event("ready")["url"]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40


def test_three_peers_survive_a_loss_with_the_same_words() -> None:
    said = run(str(ROOT / "examples" / "three_peers.py"))
    assert "peer 1 is lost" in said
    assert "identical to an undisturbed run: yes" in said


def test_a_module_is_spread_and_survives_a_loss() -> None:
    assert "the same after a loss: yes" in run(str(ROOT / "examples" / "spread_module.py"))


def test_openais_own_package_asks(url) -> None:
    assert len(run(str(ROOT / "examples" / "ask_by_http.py"), url)) > 40


def test_the_lines_of_the_readme_run(url) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    by_http, by_import = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(run("-c", by_http.replace("http://127.0.0.1:7700", url))) > 20
    assert len(run("-c", by_import)) > 40
