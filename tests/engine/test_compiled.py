"""Kernels that crash, hang or give other numbers in the child are never used here."""

import subprocess
import sys

import numpy as np
import pytest

from engine_cases import HAS_NUMBA
from manyhands.engine import compiled
from manyhands.engine.block_linear import CompiledProduct
from manyhands.engine.compiled import kernels_serve, new_crew, processors, trial


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """As on a machine where nothing was tried yet."""
    monkeypatch.setattr(compiled, "kernel_folder", lambda: tmp_path)
    kernels_serve.cache_clear()
    yield tmp_path
    kernels_serve.cache_clear()


def child(code):
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os.abort()", "ended with -6"),
        ("print('attention is wrong'); raise SystemExit(1)", "ended with 1: attention is wrong"),
    ],
)
def test_a_child_that_does_not_end_well_is_told(code, told):
    assert told in trial(child(code))


def test_a_child_that_cannot_start_or_hangs_is_told(monkeypatch):
    assert "needs a second process" in trial(("/nothing/here",))
    monkeypatch.setattr(compiled, "DEADLINE_S", 0.2)
    assert "was not done after" in trial(child("import time; time.sleep(60)"))


def test_kernels_that_crash_are_not_used_and_not_remembered(anew, monkeypatch, caplog):
    pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "CHILD", child("import os; os.abort()"))
    assert not kernels_serve()
    assert new_crew(2) is None
    assert "multiplied by numpy" in caplog.text
    assert not list(anew.iterdir())


def test_kernels_that_were_right_are_not_tried_again(anew, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "CHILD", child("pass"))
    assert kernels_serve()
    kernels_serve.cache_clear()
    monkeypatch.setattr(compiled, "CHILD", child("raise SystemExit(1)"))
    assert kernels_serve()


def test_without_numba_numpy_serves(anew, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not kernels_serve()


def test_the_child_notices_wrong_products(monkeypatch):
    if not HAS_NUMBA:
        pytest.skip("numba is not installed")
    from manyhands.engine import compiled_child

    crew = new_crew(1)
    assert compiled_child.products_are_right(crew)
    assert compiled_child.attention_is_right(crew)
    right = CompiledProduct.__call__

    def wrong(self, rows):
        out = right(self, rows)
        out[-1, 0] = np.nextafter(out[-1, 0], np.float32(9))
        return out

    monkeypatch.setattr(CompiledProduct, "__call__", wrong)
    assert not compiled_child.products_are_right(crew)


@pytest.mark.parametrize("form", [np.float32, np.uint16])
def test_the_child_notices_attention_that_is_wrong_in_one_form(monkeypatch, form):
    if not HAS_NUMBA:
        pytest.skip("numba is not installed")
    from manyhands.engine import compiled_child

    crew, right = new_crew(2), compiled_child.attend

    def wrong(queries, keys, *rest):
        return right(queries, keys, *rest) + np.float32(1e-4 if keys.dtype == form else 0)

    assert compiled_child.attention_is_right(crew)
    monkeypatch.setattr(compiled_child, "attend", wrong)
    assert not compiled_child.attention_is_right(crew)


def test_a_crew_has_a_thread_for_each_processor_unless_told():
    if not HAS_NUMBA:
        pytest.skip("numba is not installed")
    assert new_crew(None).threads == processors() >= 1
    assert new_crew(3).threads == 3


FIRST_STEPS = """
import asyncio, numba, sys
from manyhands.domain.ids import SessionId
from manyhands.domain.settings import Settings
from manyhands.engine.compute import ComputeThread
from manyhands.engine.engine import Chunk
from manyhands.node.rehearsal import Rehearsal
from manyhands.node.opened import open_model
from manyhands.store.builtin import storyteller_folder

def loaded():
    from manyhands.engine import attend_kernels, block_kernels, crew, row_kernels
    parts = (attend_kernels, block_kernels, crew, row_kernels)
    words = [word for part in parts for word in vars(part).values()]
    ours = {id(word): word for word in words if isinstance(word, numba.core.dispatcher.Dispatcher)}
    return sum(len(word.signatures) for word in ours.values())

async def rehearsed():
    model = open_model(storyteller_folder(), Settings(), engine="torch", dtype="bf16").model
    thread, heard = ComputeThread(), []
    clock = asyncio.get_running_loop().time
    engine = await thread.run(lambda: model.load(model.spec.span))
    await Rehearsal(thread, clock, lambda *found: heard.append(found))(
        model, model.spec.span, engine
    )
    (told,) = heard
    assert told[:2] == (model.id, model.spec.span) and told[2]  # five, fewer on a busy machine
    return engine

engine = asyncio.run(rehearsed())
before = loaded()
name = SessionId("0" * 32)
engine.open(name, 64)
engine.step([Chunk(name, 0, tuple(range(40)), None, (39,))])
engine.step([Chunk(name, 40, (7,), None, (0,))])
print(before, loaded())
"""


def test_a_rehearsed_engine_waits_for_no_kernel_in_its_first_step():
    pytest.importorskip("numba")
    pytest.importorskip("torch")
    ran = subprocess.run(child(FIRST_STEPS), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    before, after = map(int, ran.stdout.split())
    assert before == after > 0
