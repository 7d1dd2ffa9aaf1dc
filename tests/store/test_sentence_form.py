"""What a sentence-transformers folder says of its vectors is followed, or refused by name."""

import json

import pytest

import tiny
from manyhands.errors import CheckpointError, NotServed
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.sentence_form import SentenceForm, read_sentence_form

TYPES = "sentence_transformers.models."


def write(folder, *names, pooling=None, limits=None, prompts=None):
    folder.mkdir(exist_ok=True)
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [{"type": TYPES + name, "path": paths[i]} for i, name in enumerate(names)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    said = {"pooling_mode_mean_tokens": True} if pooling is None else pooling
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits or {}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts or {}))
    return folder


def test_the_folder_says_what_is_pooled_how_long_and_how_many_tokens(tmp_path):
    assert read_sentence_form(tmp_path) is None
    folder = write(tmp_path, "Transformer", "Pooling", "Normalize", limits={"max_seq_length": 256})
    assert read_sentence_form(folder) == SentenceForm("pool_mean", True, 256)
    folder = write(tmp_path, "Transformer", "Pooling", pooling={"pooling_mode_cls_token": True})
    assert read_sentence_form(folder) == SentenceForm("pool_first", False)
    folder = write(tmp_path, "Transformer", "Pooling", pooling={"pooling_mode": "cls"})
    assert read_sentence_form(folder) == SentenceForm("pool_first", False)


@pytest.mark.parametrize(
    ("names", "changes", "said"),
    [
        (("Transformer", "Pooling", "Dense"), {}, "Dense"),
        (("Pooling",), {}, "Pooling"),
        ((), {}, "nothing"),
        (("Transformer", "Pooling"), {"pooling": {"pooling_mode": "max"}}, "max"),
        (("Transformer", "Pooling"), {"pooling": {"pooling_mode": ["cls", "mean"]}}, "cls"),
        (("Transformer", "Pooling"), {"pooling": {"pooling_mode_lasttoken": True}}, "lasttoken"),
        (("Transformer", "Pooling"), {"limits": {"do_lower_case": True}}, "do_lower_case"),
        (("Transformer", "Pooling"), {"prompts": {"default_prompt_name": "query"}}, "query"),
    ],
)
def test_what_is_not_served_is_refused_by_name(tmp_path, names, changes, said):
    with pytest.raises(NotServed, match=said):
        read_sentence_form(write(tmp_path, *names, **changes))


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", "[" * 100_000])
def test_damaged_modules_are_an_error(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(CheckpointError, match="modules"):
        read_sentence_form(tmp_path)


@pytest.mark.parametrize("path", ["../other", "a/b", "", 5, None])
def test_a_path_out_of_the_folder_is_refused(tmp_path, path):
    folder = write(tmp_path, "Transformer", "Pooling")
    modules = [{"type": TYPES + "Transformer"}, {"type": TYPES + "Pooling", "path": path}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="path"):
        read_sentence_form(folder)


@pytest.mark.parametrize("most", [0, -1, True, 2.5, "many"])
def test_an_absurd_length_is_an_error(tmp_path, most):
    folder = write(tmp_path, "Transformer", "Pooling", limits={"max_seq_length": most})
    with pytest.raises(CheckpointError, match="max_seq_length"):
        read_sentence_form(folder)


def test_a_checkpoint_pools_as_its_folder_says_and_so_is_another_model(tmp_path):
    folder = tiny.make("bert", tmp_path / "bert")
    bare = Checkpoint.open(folder)
    assert (bare.spec.head.kind, bare.spec.context, bare.sentence_form) == ("pool_mean", 512, None)
    first = {"pooling_mode": "cls"}
    write(folder, "Transformer", "Pooling", pooling=first, limits={"max_seq_length": 64})
    said = Checkpoint.open(folder)
    assert (said.spec.head.kind, said.spec.context) == ("pool_first", 64)
    assert said.identity() != bare.identity()
