"""The laws of the house: src keeps them, and each breach is noticed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import house  # noqa: E402  # tools/ is beside the package, not in it

SRC = ROOT / "src" / "manyhands"
GOOD = '"""One job."""\n'


def test_the_house_stands():
    assert house.check(SRC) == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print('x')", "no input or output"),
        ("def f(p):\n    return open(p)", "no input or output"),
        ("import numpy as np\nnp.random.rand()", "no chance"),
        ("from numpy import random", "no chance"),
        ("import numpy.random", "no chance"),
        ("eval('1')", "runs what it is given"),
        ("exec('1')", "runs what it is given"),
        ("assert 1", "vanishes"),
        ("import pickle", "unpickled"),
        ("from pickle import loads", "unpickled"),
        ("import torch\ntorch.load('x')", "may unpickle"),
        ("from torch import load", "may unpickle"),
        ("x = 1\n" * 400, "400 at most"),
        ("def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
    ],
)
def test_a_breach_on_a_pure_floor_is_noticed(code, told):
    found = house.breaches(GOOD + code + "\n", "plan/cost.py")
    assert any(told in line for line in found)


def test_higher_floors_may_read_files_but_not_unpickle():
    assert house.breaches(GOOD + "open('x')\nimport numpy as np\nnp.random\n", "net/tcp.py") == []
    assert house.breaches(GOOD + "import pickle\n", "net/tcp.py")
    assert house.breaches(GOOD + "eval('1')\n", "cli/run.py")
    assert house.breaches(GOOD + "assert 1\n", "node/app.py")


def test_a_file_without_a_docstring_is_noticed():
    assert house.breaches("x = 1\n", "net/tcp.py")


def test_what_only_looks_like_a_breach_is_none():
    code = "def load(engine):\n    engine.load('x')\n    engine.print('x')\n"
    assert house.breaches(GOOD + code, "plan/cost.py") == []


def test_the_check_ends_with_the_status_make_reads(tmp_path, capsys):
    (tmp_path / "plan").mkdir()
    bad = tmp_path / "plan" / "bad.py"
    bad.write_text(GOOD + "print(1)\n", encoding="utf-8")
    assert house.main([str(tmp_path)]) == 1
    assert "plan/bad.py:2: floors 0-2" in capsys.readouterr().out
    bad.write_text(GOOD, encoding="utf-8")
    assert house.main([str(tmp_path)]) == 0


def test_floors_below_the_engine_load_neither_torch_nor_sockets_of_ours():
    names = sorted(
        ".".join(("manyhands", *path.relative_to(SRC).with_suffix("").parts))
        for path in SRC.rglob("*.py")
        if path.relative_to(SRC).parts[0] in house.PURE and path.name != "__init__.py"
    )
    code = (
        f"import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print([n for n in ('torch', 'transformers', 'asyncio') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.strip() == "[]"
