"""A converted folder opens without a flag, means the same, and is refused when it is not whole."""

import json
import shutil

import numpy as np
import pytest

import manyhands as mh
import tiny
from engine_cases import LOADS
from manyhands.codec.weight_blocks import dequantise, quantise
from manyhands.domain.settings import Settings
from manyhands.domain.weight_format import weight_format
from manyhands.engine.weights import read_float32
from manyhands.errors import CheckpointError, NotServed
from manyhands.node.conversion import convert
from manyhands.node.opened import open_model
from manyhands.store.checkpoint import Checkpoint
from ordinary import token_ids

FORMS = ("int8", "int4", "bf16")


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


def test_matrices_are_the_nearest_blocks_and_vectors_are_kept(converted, source):
    made = Checkpoint.open(converted["int8"])
    made.check()
    assert weight_format(made.spec) == "int8"
    for old, new in zip(source.spec.layers, made.spec.layers, strict=True):
        for name, plain in old.tensors.items():
            before = read_float32(plain, source.read)
            after = read_float32(new.tensors[name], made.read)
            is_matrix = before.ndim == 2
            expected = dequantise(quantise(before, 8)) if is_matrix else before
            np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("case", ["llama-bias", "qwen2-tied", "llama-sharded"])
def test_bfloat16_of_bfloat16_is_the_same_model(tmp_path, case):
    source = Checkpoint.open(tiny.make(case, tmp_path / "m", dtype="bfloat16"))
    convert(source, "bf16", tmp_path / "bf16", lambda _: None)
    made = Checkpoint.open(tmp_path / "bf16")
    made.check()
    text = token_ids(20)
    for load in LOADS.values():
        scores = [
            load(one.spec, one.spec.span, one.read, kv_bytes=1 << 22).forward(text, None).scores
            for one in (source, made)
        ]
        np.testing.assert_array_equal(*scores)


def test_identity_and_digest_tell_formats_and_contents_apart(converted, copied, source):
    names = {Checkpoint.open(converted[form]).identity() for form in FORMS}
    assert len(names | {source.identity()}) == 4
    again = copied("int8")
    assert Checkpoint.open(again).identity() in names
    file = again / "model.safetensors"
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


def test_a_conversion_that_is_broken_off_leaves_nothing(source, tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, "int8", tmp_path / "m", stop)
    assert not list(tmp_path.iterdir())


def test_converting_twice_is_refused(converted, tmp_path):
    with pytest.raises(CheckpointError, match="was converted to int8 already"):
        convert(Checkpoint.open(converted["int8"]), "int4", tmp_path / "m", lambda _: None)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path):
    folder = tiny.make("llama", tmp_path / "m")
    file = folder / "model.safetensors"
    place = Checkpoint.open(folder)._place("model.layers.1.mlp.up_proj.weight")
    data = bytearray(file.read_bytes())
    data[place.first : place.first + 4] = np.float32(np.nan).tobytes()
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj\.weight.*NaN"):
        convert(Checkpoint.open(folder), "int8", tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists()


def mixed_config(folder, converted):
    shutil.copyfile(converted["int4"] / "config.json", folder / "config.json")


def mixed_weights(folder, converted):
    shutil.copyfile(converted["int4"] / "model.safetensors", folder / "model.safetensors")


def plain_weights(folder, converted):
    shutil.copyfile(converted["bf16"] / "model.safetensors", folder / "model.safetensors")


def cut_short(folder, _converted):
    file = folder / "model.safetensors"
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
        ({"version": 2}, "layout 2; this version reads"),
        ({"quant_method": "gptq"}, r"quantised \(gptq\); take the model's plain"),
    ],
)
def test_a_format_this_version_does_not_know_is_named(copied, changes, told):
    folder = copied("int8")
    change_config(folder, **changes)
    with pytest.raises(NotServed, match=told):
        Checkpoint.open(folder)


@pytest.mark.parametrize("case", ["mixtral", "deepseek_v3"])
def test_what_cannot_be_converted_yet_is_refused_before_anything_is_written(tmp_path, case):
    source = Checkpoint.open(tiny.make(case, tmp_path / case))
    with pytest.raises(NotServed, match="not converted"):
        convert(source, "int8", tmp_path / "new", lambda _: None)
    assert not (tmp_path / "new").exists()
