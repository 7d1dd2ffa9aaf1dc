"""A folder made ready: its name, its engine, and texts where it has a tokenizer; nothing loaded."""

import shutil

import numpy as np
import pytest

import tiny
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.engine import numpy_math, torch_math
from manyhands.errors import BadSetting, CheckpointError, ManyhandsError
from manyhands.node.opened import open_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make("llama", tmp_path_factory.mktemp("models") / "little")


def test_a_folder_is_opened_for_the_engine_that_was_named(folder):
    opened = open_model(folder, Settings(), engine="numpy")
    assert opened.name == "little"
    assert opened.folder == folder
    assert opened.model.profile.kernels == (f"numpy-fp32-{numpy_math.ARITHMETIC}-{np.__version__}")
    assert opened.model.stored == (opened.model.spec.span,)
    assert (opened.model.bytes_per_weight, opened.model.bytes_per_kv) == (4.0, 4.0)
    assert opened.end_tokens == {1}
    assert opened.tokenizer.encode("Many hands")
    assert opened.on_start is None
    assert opened.model.load(Span(0, 2)).weight_bytes > 0


def test_torch_counts_two_bytes_for_bf16(folder):
    opened = open_model(folder, Settings(), engine="torch", dtype="bf16", threads=1)
    assert opened.model.profile.kernels.startswith(f"torch-bf16-{torch_math.ARITHMETIC}-")
    assert opened.model.bytes_per_weight == 2.0
    opened.on_start()


def test_the_same_weights_are_the_same_model_on_every_engine_and_others_another(folder, tmp_path):
    other = tiny.make("llama", tmp_path / "other", seed=1)
    ids = [
        open_model(path, Settings(), engine=engine).model.id
        for path, engine in ((folder, "numpy"), (folder, "torch"), (other, "numpy"))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_folder_without_a_tokenizer_takes_ids_only(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "bare")
    (copy / "tokenizer.json").unlink()
    assert open_model(copy, Settings(), engine="numpy").tokenizer is None


def test_the_name_is_the_folders_own_however_it_was_reached(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    assert open_model(".", Settings(), engine="numpy").name == "little"
    (tmp_path / "link").symlink_to(folder)
    assert open_model(tmp_path / "link", Settings(), engine="numpy").name == "little"


def test_a_folder_of_an_odd_name_keeps_no_newcomer_out(folder, tmp_path):
    for odd, told in (("\x1b[2J b\u00fcch", "?[2J b\u00fcch"), ("n" * 220, "n" * 200)):
        copy = shutil.copytree(folder, tmp_path / odd)
        assert open_model(copy, Settings(), engine="numpy").name == told


def test_what_cannot_be_opened_is_said_before_anything_is_loaded(folder, tmp_path):
    with pytest.raises(CheckpointError):
        open_model(tmp_path, Settings())
    with pytest.raises(BadSetting, match="auto, numpy or torch"):
        open_model(folder, Settings(), engine="abacus")
    with pytest.raises(BadSetting):
        open_model(folder, Settings(), engine="numpy", threads=2)
    copy = shutil.copytree(folder, tmp_path / "cut")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ManyhandsError):
        open_model(copy, Settings(), engine="numpy")
