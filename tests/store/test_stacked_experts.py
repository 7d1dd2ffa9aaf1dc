"""Experts in stacks are the same model as experts with a tensor each."""

from dataclasses import replace

import pytest

import tiny
from manyhands.domain.stored_parts import stored_parts
from manyhands.errors import CheckpointError
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.stacked_experts import unstacked
from manyhands.store.weight_files import find_tensors


@pytest.mark.parametrize("case", ["mixtral", "qwen3_moe-some", "deepseek_v3"])
def test_a_stack_holds_the_same_model(case, tmp_path):
    single = Checkpoint.open(tiny.make(case, tmp_path / "single"))
    stacked = Checkpoint.open(tiny.make(case, tmp_path / "stacked", is_stacked=True))
    assert any(name.endswith(".experts.down_proj") for name in find_tensors(stacked.folder))
    stacked.check()
    assert stacked.identity() == single.identity()
    assert stacked.digest(stacked.spec.span) == single.digest(single.spec.span)
    source = single.spec.layers[-2].tensors["experts.up"]
    for part in stored_parts(source):
        assert stacked.read(part).data == single.read(part).data


def test_a_stack_of_another_shape_is_refused(tmp_path):
    folder = tiny.make("mixtral", tmp_path, is_stacked=True)
    spec, places = Checkpoint.open(folder).spec, find_tensors(folder)
    name = "model.layers.1.mlp.experts.gate_up_proj"
    wrong = {**places, name: replace(places[name], shape=(4, 96, 128))}
    with pytest.raises(CheckpointError, match=rf"{name}.*\[4, 96, 128\].*\[4, 192, 64\]"):
        unstacked(spec, wrong)


def test_an_expert_that_is_nowhere_is_missing(tmp_path):
    checkpoint = Checkpoint.open(tiny.make("mixtral", tmp_path))
    places = find_tensors(tmp_path)
    del places["model.layers.1.block_sparse_moe.experts.2.w3.weight"]
    with pytest.raises(CheckpointError, match=r"experts\.2\.w3\.weight' is missing"):
        Checkpoint(tmp_path, checkpoint.config, places).check()
