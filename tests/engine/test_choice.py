"""An engine is chosen by what is installed and asked for; what it cannot follow is told by name."""

import sys

import numpy as np
import pytest
import torch

import tiny
from manyhands.engine import choice, integers
from manyhands.errors import BadSetting
from manyhands.node.conversion import convert
from manyhands.store.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return Checkpoint.open(tiny.make("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture
def choose(checkpoint):
    def chosen(engine="auto", dtype="auto", threads=None):
        return choice.choose(engine, dtype, threads, checkpoint.spec, checkpoint.read)

    return chosen


@pytest.fixture
def without_torch(monkeypatch):
    """As on a machine without torch: to import it is an error."""
    monkeypatch.setitem(sys.modules, "torch", None)


def test_auto_is_torch_where_it_is_installed(choose):
    assert choose().profile("id").kernels.startswith("torch")


def test_auto_is_numpy_where_torch_is_not(choose, without_torch):
    assert choose().profile("id").kernels.startswith("numpy")


def test_torch_that_is_not_installed_is_told_how_to_get_it(choose, without_torch):
    with pytest.raises(BadSetting, match=r"pip install -e '\.\[torch\]' in your clone") as told:
        choose("torch")
    assert "engine='numpy'" in str(told.value)


@pytest.mark.parametrize("engine", ["abacus", "", None, 7])
def test_an_unknown_engine_is_refused_by_name(choose, engine):
    with pytest.raises(BadSetting, match=f"engine is {engine!r}; it must be auto, numpy or torch"):
        choose(engine)


@pytest.mark.parametrize(
    ("name", "meant", "number_bytes"),
    [("float32", "fp32", 4), ("bfloat16", "bf16", 2), ("float16", "fp16", 2)],
)
def test_torchs_own_names_of_a_dtype_are_understood(choose, name, meant, number_bytes):
    one, other = choose("torch", name), choose("torch", meant)
    assert one.profile("id") == other.profile("id")
    assert one.bytes_per_weight == other.bytes_per_weight == number_bytes


@pytest.mark.parametrize("dtype", ["auto", "fp32", "float32"])
def test_numpy_computes_in_fp32_by_any_of_its_names(choose, dtype):
    kind = choose("numpy", dtype)
    assert kind.bytes_per_weight == 4
    assert kind.on_start is None


@pytest.mark.parametrize("dtype", ["int8", "bf16", "bfloat16", "float16", ""])
def test_a_dtype_that_numpy_does_not_compute_in_is_named(choose, dtype):
    told = f"^dtype is {dtype!r}; the numpy engine computes in fp32 only"
    with pytest.raises(BadSetting, match=told) as error:
        choose("numpy", dtype)
    assert "threads" not in str(error.value)


def test_a_dtype_that_torch_does_not_serve_is_named(choose):
    with pytest.raises(BadSetting, match="dtype is 'int8'; it must be auto, fp32, bf16 or fp16"):
        choose("torch", "int8")


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [None, torch.float32, np.float32, ["fp32"], 32])
def test_a_dtype_that_is_no_text_is_refused(choose, engine, dtype):
    with pytest.raises(BadSetting, match=r"dtype is .*; it must be the name auto, fp32"):
        choose(engine, dtype)


def test_numpy_is_told_to_leave_threads_out(choose):
    told = "^threads is 1; the numpy engine leaves threads to BLAS: leave it out, or use engine="
    with pytest.raises(BadSetting, match=told) as error:
        choose("numpy", threads=1)
    assert "dtype" not in str(error.value)


@pytest.mark.parametrize("threads", [0, -1, 4097, 2**40, "a", "2", 1.0, True, [1]])
def test_threads_that_torch_cannot_use_are_refused_before_it_is_asked(choose, threads):
    with pytest.raises(BadSetting, match=r"^threads is .*; it must be a whole number in \[1, 4096"):
        choose("torch", threads=threads)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_a_model_in_integers_may_be_named_by_its_format_and_takes_threads(tmp_path, engine):
    source = Checkpoint.open(tiny.make("qwen3", tmp_path / "m"))
    convert(source, "int8", tmp_path / "int8", lambda _: None)
    made = Checkpoint.open(tmp_path / "int8")
    for dtype in ("auto", "int8"):
        kind = choice.choose(engine, dtype, 2, made.spec, made.read)
        assert kind.profile("id").kernels.startswith(f"{engine}-int8")
        assert kind.bytes_per_kv == 2
        assert kind.bytes_per_weight == 4
        assert kind.load(made.spec.span, 1 << 20).weight_bytes > 0
    for wrong in ("int4", "bf16"):
        with pytest.raises(BadSetting, match=f"dtype is {wrong!r}"):
            choice.choose(engine, wrong, 2, made.spec, made.read)
    with pytest.raises(BadSetting, match="threads is 0"):
        choice.choose(engine, "auto", 0, made.spec, made.read)


def test_the_engines_accept_each_other_in_integers(tmp_path):
    one, other = (integers.profile("w", "int8", name, 1, "v") for name in ("numpy", "torch"))
    assert one.allows(other.kernels)
    assert other.allows(one.kernels)


def test_threads_are_set_where_they_are_used(choose):
    before = torch.get_num_threads()
    start = choose("torch", threads=before + 1).on_start
    assert torch.get_num_threads() == before
    try:
        start()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_chosen_engine_loads_a_span(choose, checkpoint):
    for engine in ("numpy", "torch"):
        assert choose(engine).load(checkpoint.spec.span, 1 << 20).weight_bytes > 0


def test_this_device_has_memory_whatever_the_system_says(monkeypatch):
    assert choice.this_device().memory_bytes > 2**20
    monkeypatch.setitem(sys.modules, "psutil", None)  # as where it is not installed
    for pages, expected in [(100, 409_600), (-1, 8 << 30), (0, 8 << 30)]:
        told = {"SC_AVPHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}
        monkeypatch.setattr(choice.os, "sysconf", told.__getitem__, raising=False)
        assert choice.this_device().memory_bytes == expected
    monkeypatch.delattr(choice.os, "sysconf")
    assert choice.this_device().memory_bytes == 8 << 30
