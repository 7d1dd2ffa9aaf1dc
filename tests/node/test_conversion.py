"""A converted folder opens without a flag, means the same, and is refused when it is not whole."""

import copy
import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import manyhands as mh
import tiny
from converted_cases import folders_in, whole
from engine_cases import LOADS
from manyhands.codec.panels import stacked
from manyhands.codec.weight_blocks import dequantise, quantise
from manyhands.domain.model_spec import LayerSpec, ModuleSpec
from manyhands.domain.settings import Settings
from manyhands.domain.stored_parts import stored_parts
from manyhands.domain.weight_format import weight_format
from manyhands.engine.block_weights import read_panels
from manyhands.engine.compiled import new_crew
from manyhands.errors import CheckpointError, NotServed
from manyhands.node import conversion
from manyhands.node.conversion import convert
from manyhands.node.opened import open_model
from manyhands.plan.cost import Cost, weight_bytes
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.safetensors_header import read_header
from ordinary import token_ids

FORMS = ("int8", "int4", "bf16")
KINDS = (
    *("llama-tied", "llama-bias", "gpt2", "bert", "vit", "mixtral", "gpt_oss", "qwen2_moe"),
    *("deepseek_v2", "deepseek_v3"),
)
KEPT = ("router", "shared.scale", "positions", "token_types", "class_token", "kv_up", ".bias")
"""Tables of more than one row that do not become blocks."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return folders_in(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return Checkpoint.open(tiny.make("llama-tied", tmp_path_factory.mktemp("source") / "m"))


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    """form -> its folder, not to be changed."""
    place = tmp_path_factory.mktemp("converted")
    for form in FORMS:
        convert(source, form, place / form, lambda _: None)
    return {form: place / form for form in FORMS}


@pytest.fixture
def copied(converted, tmp_path):
    def copy(form):
        return shutil.copytree(converted[form], tmp_path / form)

    return copy


def change_config(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] = {**config["quantization_config"], **changes}
    file.write_text(json.dumps(config))


@pytest.mark.parametrize("form", FORMS)
def test_a_converted_folder_opens_without_a_flag(converted, source, form):
    opened = open_model(converted[form], Settings())
    assert opened.model.profile.weight_format == form
    assert opened.model.profile.row_invariant == (form != "bf16")
    assert opened.tokenizer is not None
    assert opened.end_tokens == frozenset(source.end_tokens)
    held = opened.model.load(opened.model.spec.span)
    assert held.weight_bytes < 0.6 * source.stored_bytes(source.spec.span)


@pytest.mark.parametrize("case", KINDS)
def test_matrices_are_the_nearest_blocks_and_the_rest_is_kept(folders, case):
    plain, made = folders(case, "int8")
    made.check()
    assert weight_format(made.spec) == "int8"
    for old, new in zip(plain.spec.layers, made.spec.layers, strict=True):
        for name, source in old.tensors.items():
            before, after = whole(source, plain.read), whole(new.tensors[name], made.read)
            if before.ndim > 1 and not name.endswith(KEPT):
                rows = before.reshape(-1, before.shape[-1])
                before = dequantise(quantise(rows, 8)).reshape(before.shape)
            np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("case", KINDS)
def test_memory_and_disk_take_what_is_counted(folders, case):
    for form in ("int8", "int4"):
        plain, made = folders(case, form)
        spec, span = made.spec, made.spec.span
        for load in LOADS.values():
            held = load(spec, span, made.read, kv_bytes=1 << 20, threads=1).weight_bytes
            cost = Cost(bytes_per_weight=4.0)
            assert held == pytest.approx(weight_bytes(spec, span, cost), rel=0.02)  # panels of 16
        assert held >= 0.98 * made.stored_bytes(span)
        assert made.stored_bytes(span) < {"int8": 0.4, "int4": 0.32}[form] * plain.stored_bytes(
            plain.spec.span
        )


@pytest.mark.parametrize("case", ["gpt_oss", "mixtral"])
def test_experts_are_read_one_at_a_time(tmp_path, case):
    source = Checkpoint.open(tiny.make(case, tmp_path / "m"))
    told = []
    convert(source, "int8", tmp_path / "int8", told.append)
    experts = source.spec.layers[1].tensors
    one = max(tensor.elements // 4 for name, tensor in experts.items() if "experts." in name)
    vocabulary = source.spec.layers[0].tensors["tokens"].elements
    assert max(told) == 4 * max(one, vocabulary) < 4 * 4 * one


@pytest.mark.parametrize("case", ["llama-bias", "mixtral", "gpt_oss", "vit"])
def test_a_folder_is_the_same_however_small_the_pieces(folders, tmp_path, monkeypatch, case):
    plain, made = folders(case, "int4")
    monkeypatch.setattr(conversion, "PIECE_ELEMENTS", 200)
    convert(plain, "int4", tmp_path / "new", lambda _: None)
    new = Checkpoint.open(tmp_path / "new")
    assert new.digest(new.spec.span) == made.digest(made.spec.span)


def test_experts_in_stacks_become_the_folder_of_those_by_themselves(folders, tmp_path):
    _, made = folders("mixtral", "int4")
    source = Checkpoint.open(tiny.make("mixtral", tmp_path / "m", is_stacked=True))
    convert(source, "int4", tmp_path / "new", lambda _: None)
    new = Checkpoint.open(tmp_path / "new")
    assert new.digest(new.spec.span) == made.digest(made.spec.span)


@pytest.mark.parametrize(
    "case",
    [
        "llama-bias",
        "qwen2-tied",
        "llama-sharded",
        "mixtral",
        "gpt_oss",
        "dots1",
        "deepseek_v3",
        "bert",
    ],
)
def test_bfloat16_of_bfloat16_is_the_same_model(tmp_path, case):
    source = Checkpoint.open(tiny.make(case, tmp_path / "m", dtype="bfloat16"))
    convert(source, "bf16", tmp_path / "bf16", lambda _: None)
    made = Checkpoint.open(tmp_path / "bf16")
    made.check()
    text = token_ids(20)
    for load in LOADS.values():
        scores = [
            load(one.spec, one.spec.span, one.read, kv_bytes=1 << 22).forward(text, None).hidden
            for one in (source, made)
        ]
        np.testing.assert_array_equal(*scores)


def test_identity_and_digest_tell_formats_and_contents_apart(converted, copied, source):
    names = {Checkpoint.open(converted[form]).identity() for form in FORMS}
    assert len(names | {source.identity()}) == 4
    again = copied("int8")
    assert Checkpoint.open(again).identity() in names
    file = again / "layer-00001.safetensors"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    changed = Checkpoint.open(again)
    original = Checkpoint.open(converted["int8"])
    assert changed.identity() not in names
    assert changed.digest(changed.spec.span) != original.digest(original.spec.span)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_three_peers_and_one_say_the_same_and_a_loss_changes_nothing(converted, form):
    prompt, texts = [5, 9, 200, 31], []
    for peers in (1, 3):
        with mh.load(converted[form], peers=peers, engine="numpy") as model:
            texts.append(model.generate_ids(prompt, max_tokens=20))
            if peers == 3:
                stream = iter(model.stream_ids(prompt, max_tokens=20))
                said = [next(stream) for _ in range(5)]
                model.kill(1)
                texts.append([*said, *stream])
    assert texts[0] == texts[1] == texts[2]


def test_progress_counts_every_stored_byte_once(source, tmp_path):
    told = []
    convert(source, "int8", tmp_path / "m", told.append)
    assert sum(told) == source.stored_bytes(source.spec.span)
    assert len(told) > 40


@pytest.mark.parametrize("after", [0, 30])
@pytest.mark.parametrize("case", ["llama-tied", "mixtral"])
def test_a_conversion_that_is_broken_off_leaves_nothing(folders, tmp_path, case, after):
    source, _ = folders(case, "int8")
    told = []

    def stop(size):
        told.append(size)
        if len(told) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, "int8", tmp_path / "m", stop)
    assert not list(tmp_path.iterdir())


def test_converting_twice_is_refused(converted, tmp_path):
    with pytest.raises(CheckpointError, match="was converted to int8 already"):
        convert(Checkpoint.open(converted["int8"]), "int4", tmp_path / "m", lambda _: None)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("llama", "model.layers.1.mlp.up_proj.weight"),
        ("qwen3_moe", "model.layers.1.mlp.experts.3.up_proj.weight"),
        ("bert", "encoder.layer.2.attention.self.key.weight"),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, case, name):
    folder = tiny.make(case, tmp_path / "m")
    file = folder / "model.safetensors"
    place = read_header(file)[name]
    data = bytearray(file.read_bytes())
    data[place.first : place.first + 4] = np.float32(np.nan).tobytes()
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)}.*NaN"):
        convert(Checkpoint.open(folder), "int8", tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists()


def mixed_config(folder, converted):
    shutil.copyfile(converted["int4"] / "config.json", folder / "config.json")


def mixed_weights(folder, converted):
    for file in converted["int4"].glob("layer-*"):
        shutil.copyfile(file, folder / file.name)


def plain_weights(folder, converted):
    for file in converted["bf16"].glob("layer-*"):
        shutil.copyfile(file, folder / file.name)


def cut_short(folder, _converted):
    file = folder / "layer-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (mixed_config, "do not belong together"),
        (mixed_weights, "do not belong together"),
        (plain_weights, "do not belong together|is missing"),
        (cut_short, "damaged or cut short"),
    ],
)
def test_folders_that_were_mixed_up_or_cut_are_refused(copied, converted, harm, told):
    folder = copied("int8")
    harm(folder, converted)
    with pytest.raises(CheckpointError, match=told):
        Checkpoint.open(folder).check()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "int3"}, "was converted to 'int3'"),
        ({"version": 1}, "layout 1; this version reads"),
        ({"quant_method": "gptq"}, r"quantised \(gptq\); take the model's plain"),
    ],
)
def test_a_format_this_version_does_not_know_is_named(copied, changes, told):
    folder = copied("int8")
    change_config(folder, **changes)
    with pytest.raises(NotServed, match=told):
        Checkpoint.open(folder)


def test_a_model_run_by_transformers_own_code_is_refused_before_anything_is_written(
    source, tmp_path
):
    other = copy.copy(source)
    _, *layers = source.spec.layers
    other.spec = replace(source.spec, layers=(LayerSpec(ModuleSpec("embed"), {}), *layers))
    with pytest.raises(NotServed, match=r"has no family file.*multiplies no integers"):
        convert(other, "int8", tmp_path / "new", lambda _: None)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("case", ["llama", "qwen2-tied", "mixtral"])
def test_what_was_loaded_is_the_file_itself_without_a_copy(folders, case, form):
    _, made = folders(case, form)
    if new_crew(1) is None:
        pytest.skip("numba is not installed")
    for layer in made.spec.layers[1:-1]:
        for names in (("q", "k", "v"), ("gate", "up"), ("o",), ("down",)):
            sources = [layer.tensors[name] for name in names if name in layer.tensors]
            if sources:
                first = made.read(stored_parts(sources[0])[0])
                held = stacked([read_panels(source, made.read) for source in sources])
                assert held.outs == sum(source.shape[0] for source in sources)
                assert np.shares_memory(held.codes, np.frombuffer(first.data, np.uint8))


def test_a_file_that_was_changed_after_it_was_opened_is_refused(copied):
    folder = copied("int8")
    opened = Checkpoint.open(folder)
    file = folder / "layer-00001.safetensors"
    os.utime(file, (1, 1))
    with pytest.raises(CheckpointError, match="was changed after it was opened"):
        opened.read(stored_parts(opened.spec.layers[1].tensors["q"])[0])
