"""A checkpoint gives each tensor's own bytes and no others, or says what is wrong with it."""

import gc
import json
import os
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from manyhands.domain.model_spec import TensorSource
from manyhands.domain.span import Span, even_cuts
from manyhands.domain.stored_parts import expert_of, stored_parts
from manyhands.errors import CheckpointError, NotServed, UnknownFamily
from manyhands.store.checkpoint import MOST_PAGES, PAGE_BYTES, Checkpoint
from manyhands.store.weight_files import find_tensors


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Made once a module, copied by the tests that break them."""
    made = {}

    def get(case, dtype="float32", seed=0):
        key = (case, dtype, seed)
        if key not in made:
            made[key] = tiny.make(case, tmp_path_factory.mktemp(case), dtype, seed)
        return made[key]

    return get


@pytest.fixture
def broken(folders, tmp_path):
    """A private copy of a case's folder."""

    def copy(case="llama"):
        return shutil.copytree(folders(case), tmp_path / case)

    return copy


def rewrite(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def all_sources(checkpoint, span=None):
    span = span or checkpoint.spec.span
    layers = checkpoint.spec.layers[span.first : span.last]
    return [source for layer in layers for source in layer.tensors.values()]


@pytest.mark.parametrize("case", tiny.CASES)
def test_every_tensor_is_read_as_safetensors_reads_it(folders, case):
    checkpoint = Checkpoint.open(folders(case))
    checkpoint.check()
    state = {}
    for file in folders(case).glob("*.safetensors"):
        state.update(load_file(file))
    for source in all_sources(checkpoint):
        for part in stored_parts(source):
            stored = checkpoint.read(part)
            array = np.frombuffer(stored.data, np.float32).reshape(stored.shape)
            assert stored.dtype == "F32"
            np.testing.assert_array_equal(array, state[part.names[0]].numpy())


def test_one_expert_is_read_out_of_a_stack_and_no_other(folders):
    checkpoint = Checkpoint.open(folders("gpt_oss"))
    source = checkpoint.spec.layers[2].tensors["experts.gate_up"]
    (part,) = stored_parts(expert_of(source, 3))
    expected = load_file(folders("gpt_oss") / "model.safetensors")[source.names[0]][3:4]
    stored = checkpoint.read(part)
    assert checkpoint.bytes_read == stored.data.nbytes == expected.numel() * 4
    array = np.frombuffer(stored.data, np.float32).reshape(stored.shape)
    np.testing.assert_array_equal(array, expected.numpy())


def test_bfloat16_comes_as_its_stored_bytes(folders):
    checkpoint = Checkpoint.open(folders("qwen3", "bfloat16"))
    source = checkpoint.spec.layers[2].tensors["q"]
    stored = checkpoint.read(source)
    expected = load_file(folders("qwen3", "bfloat16") / "model.safetensors")[source.names[0]]
    assert stored.dtype == "BF16"
    assert bytes(stored.data) == expected.view(torch.int16).numpy().tobytes()


def test_a_buffer_is_fresh_and_read_only(folders):
    checkpoint = Checkpoint.open(folders("llama"))
    source = checkpoint.spec.layers[-1].tensors["norm"]
    one, two = checkpoint.read(source).data, checkpoint.read(source).data
    assert one.readonly
    assert one == two
    assert np.frombuffer(one, np.uint8).ctypes.data != np.frombuffer(two, np.uint8).ctypes.data


@pytest.mark.parametrize("case", ["llama", "llama-sharded"])
def test_loading_a_span_reads_its_bytes_and_no_others(folders, case):
    checkpoint = Checkpoint.open(folders(case))
    checkpoint.check()
    assert checkpoint.bytes_read == 0
    total = 0
    for span in even_cuts(len(checkpoint.spec.layers), 3):
        before = checkpoint.bytes_read
        for source in all_sources(checkpoint, span):
            checkpoint.read(source)
        assert checkpoint.bytes_read - before == checkpoint.stored_bytes(span)
        total += checkpoint.stored_bytes(span)
    assert total == checkpoint.stored_bytes(checkpoint.spec.span)
    assert total == sum(4 * source.elements for source in all_sources(checkpoint))


def test_a_span_can_be_read_when_the_other_weights_are_blanked(broken):
    """Bytes outside the span are truly not needed: they are destroyed and nobody notices."""
    folder = broken("llama-sharded")
    checkpoint = Checkpoint.open(folder)
    span = Span(3, 5)
    expected = [bytes(checkpoint.read(source).data) for source in all_sources(checkpoint, span)]
    used = {name for source in all_sources(checkpoint, span) for name in source.names}
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        blank = {n: t if n in used else torch.zeros_like(t) for n, t in tensors.items()}
        save_file(blank, file, metadata={"format": "pt"})
    again = Checkpoint.open(folder)
    assert [bytes(again.read(s).data) for s in all_sources(again, span)] == expected


def test_rows_are_cut_out_before_they_are_read(folders):
    checkpoint = Checkpoint.open(folders("llama"))
    name = "model.layers.0.self_attn.q_proj.weight"
    whole = checkpoint.read(checkpoint.spec.layers[1].tensors["q"])
    before = checkpoint.bytes_read
    cut = checkpoint.read(TensorSource((name,), (5, 64), "rows", 7, 12, 64))
    assert checkpoint.bytes_read - before == 5 * 64 * 4
    assert cut.shape == (5, 64)
    assert bytes(cut.data) == bytes(whole.data)[7 * 256 : 12 * 256]


def test_rows_of_every_run_are_cut_out_before_they_are_read(folders):
    """As where each head has its own q, k and v."""
    checkpoint = Checkpoint.open(folders("llama"))
    name = "model.layers.0.self_attn.q_proj.weight"
    stored = checkpoint.read(checkpoint.spec.layers[1].tensors["q"])
    whole = np.frombuffer(stored.data, np.float32).reshape(4, 16, 64)
    before = checkpoint.bytes_read
    cut = checkpoint.read(TensorSource((name,), (20, 64), "rows", 7, 12, 16))
    assert checkpoint.bytes_read - before == 20 * 64 * 4
    expected = whole[:, 7:12].reshape(20, 64)
    np.testing.assert_array_equal(np.frombuffer(cut.data, np.float32).reshape(20, 64), expected)


@pytest.mark.parametrize(
    ("first", "last", "shape"),
    [(60, 65, (5, 64)), (5, 5, (0, 64)), (0, 4, (5, 64)), (-1, 4, (5, 64)), (0, 5, (5, 63))],
)
@pytest.mark.parametrize("of", [64, 32, 0])
def test_rows_outside_the_stored_matrix_are_refused(folders, first, last, shape, of):
    checkpoint = Checkpoint.open(folders("llama"))
    name = "model.layers.0.self_attn.q_proj.weight"
    source = TensorSource((name,), shape, "rows", first, last, of)
    with pytest.raises(CheckpointError, match="q_proj"):
        checkpoint.read(source)


def test_a_transposed_source_comes_as_stored_and_is_checked_turned(folders):
    checkpoint = Checkpoint.open(folders("llama"))
    name = "model.layers.0.mlp.gate_proj.weight"  # [96, 64] as stored
    assert checkpoint.read(TensorSource((name,), (64, 96), "transpose")).shape == (96, 64)
    with pytest.raises(CheckpointError, match="gate_proj"):
        checkpoint.read(TensorSource((name,), (96, 64), "transpose"))


def test_layouts_of_several_tensors_are_read_part_by_part_only(folders):
    checkpoint = Checkpoint.open(folders("llama"))
    names = ("model.norm.weight", "model.norm.weight")
    with pytest.raises(NotServed):
        checkpoint.read(TensorSource(names, (64,), "expert_stack"))
    with pytest.raises(NotServed):
        checkpoint.read(TensorSource(names[:1], (64,), "mxfp4"))


def test_no_file_stays_open(folders):
    checkpoint = Checkpoint.open(folders("llama-sharded"))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for source in all_sources(checkpoint):
        checkpoint.read(source)
    gc.collect()  # an unclosed file would warn, and warnings are errors
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before


def test_the_identity_names_the_weights_not_the_files(folders):
    one, sharded = Checkpoint.open(folders("llama")), Checkpoint.open(folders("llama-sharded"))
    assert one.identity() == sharded.identity()
    assert len(one.identity()) == 64
    others = [
        Checkpoint.open(folders("llama", seed=1)),
        Checkpoint.open(folders("llama", "bfloat16")),
        Checkpoint.open(folders("llama-linear")),
        Checkpoint.open(folders("mistral")),
        Checkpoint.open(folders("llama-tied")),
    ]
    assert len({one.identity(), *(other.identity() for other in others)}) == 6


@pytest.mark.parametrize("at", [0, -1])
def test_the_identity_changes_with_an_edge_of_any_tensor(broken, at):
    folder = broken("llama")
    before = Checkpoint.open(folder).identity()
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"].view(-1)[at] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert Checkpoint.open(folder).identity() != before


@pytest.mark.parametrize("at", range(0, 96 * 64, 611))
def test_of_a_small_model_every_byte_is_in_its_identity(broken, at):
    folder = broken("llama")
    before = Checkpoint.open(folder).identity()
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"].view(-1)[at] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert Checkpoint.open(folder).identity() != before


@pytest.fixture(scope="module")
def large(folders, tmp_path_factory):
    """A folder whose embedding alone is 96 MiB, and where in its file that lies."""
    folder = shutil.copytree(folders("llama-tied"), tmp_path_factory.mktemp("large") / "model")
    rows = 96 * 4096
    rewrite(folder / "config.json", lambda config: config.update(vocab_size=rows))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = torch.rand(rows, 64, generator=torch.Generator())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    place = find_tensors(folder)["model.embed_tokens.weight"]
    return folder, place


def test_of_a_large_model_no_more_than_pages_are_read_for_its_identity(large):
    checkpoint = Checkpoint.open(large[0])
    checkpoint.identity()
    pages = 2 * (MOST_PAGES + len(all_sources(checkpoint)))
    assert 0 < checkpoint.bytes_read <= pages * PAGE_BYTES
    assert checkpoint.bytes_read < checkpoint.stored_bytes(checkpoint.spec.span) / 2


@pytest.mark.parametrize(
    ("first", "last"),
    [(0.001, 0.999), (0.9, 1.0), (0.5, 0.5 + 1 / 96), (0.123, 0.123 + 1 / 96), (0.77, 0.7703)],
    ids=["all but its ends", "padded", "1 MiB", "1 MiB elsewhere", "30 KiB"],
)
def test_a_hole_in_a_large_tensor_is_another_model(large, first, last):
    """As after a download that was cut off, or a bad disk: the size is right, the bytes are 0."""
    folder, place = large
    before, size = Checkpoint.open(folder), place.last - place.first
    with place.file.open("r+b") as stream:
        stream.seek(place.first + int(first * size))
        kept = stream.read(int(last * size) - int(first * size))
        stream.seek(-len(kept), os.SEEK_CUR)
        stream.write(bytes(len(kept)))
        stream.flush()
        after = Checkpoint.open(folder)
        told = after.identity(), after.digest(Span(0, 1)), after.digest(Span(1, 3))
        stream.seek(-len(kept), os.SEEK_CUR)
        stream.write(kept)
    again = Checkpoint.open(folder)
    assert again.identity() != told[0]
    assert again.digest(Span(0, 1)) != told[1]
    assert again.digest(Span(1, 3)) == told[2]
    assert before.spec == again.spec


def test_a_digest_is_of_every_byte_of_its_span(large):
    folder, place = large
    before = Checkpoint.open(folder)
    told = before.digest(Span(0, 1))
    assert before.bytes_read == before.stored_bytes(Span(0, 1))
    with place.file.open("r+b") as stream:
        stream.seek(place.first + 5 * PAGE_BYTES + 77)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))
        stream.flush()
        assert Checkpoint.open(folder).digest(Span(0, 1)) != told
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte]))
    assert Checkpoint.open(folder).digest(Span(0, 1)) == told


def test_a_missing_tensor_is_named_by_the_check_of_its_span_only(broken):
    folder = broken("llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.3.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint.open(folder)
    checkpoint.check(Span(0, 4))
    checkpoint.check(Span(5, 8))
    for span in (None, Span(4, 5)):
        with pytest.raises(CheckpointError, match=r"model\.layers\.3\.mlp\.up_proj\.weight"):
            checkpoint.check(span)
    with pytest.raises(CheckpointError, match="outside"):
        checkpoint.check(Span(0, 9))


def test_a_config_of_another_size_is_noticed_naming_the_tensor(broken):
    folder = broken("llama")
    rewrite(folder / "config.json", lambda c: c.update(intermediate_size=95))
    checkpoint = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match=r"gate_proj.*\[96, 64\].*\[95, 64\]"):
        checkpoint.check()
    with pytest.raises(CheckpointError, match="gate_proj"):
        checkpoint.read(checkpoint.spec.layers[1].tensors["gate"])


def test_a_bias_that_the_family_does_not_read_is_refused(broken):
    """A Qwen2 called a Llama has every tensor a Llama needs, and would run wrong."""
    folder = broken("qwen2")
    rewrite(folder / "config.json", lambda c: c.update(model_type="llama"))
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\..*bias.*run wrong"):
        Checkpoint.open(folder).check()


def test_a_head_stored_beside_its_tie_must_be_the_embedding(broken):
    """transformers does not tie when both are stored and differ: tying would run wrong."""
    folder = broken("llama-tied")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    Checkpoint.open(folder).check()
    for other in (tensors["lm_head.weight"].clone(), tensors["lm_head.weight"][:-1].clone()):
        other[-1, -1] += 1
        save_file(
            {**tensors, "lm_head.weight": other},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
        checkpoint = Checkpoint.open(folder)
        checkpoint.check(Span(0, 7))
        with pytest.raises(CheckpointError, match="tie_word_embeddings"):
            checkpoint.check()


def test_frequencies_that_old_files_carry_are_no_fault(broken):
    folder = broken("llama")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    Checkpoint.open(folder).check()


def test_a_file_that_shrinks_after_opening_is_a_typed_error(broken):
    folder = broken("llama")
    checkpoint = Checkpoint.open(folder)
    os.truncate(folder / "model.safetensors", 20_000)
    with pytest.raises(CheckpointError, match="was changed after it was opened"):
        [checkpoint.read(source) for source in all_sources(checkpoint)]
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.read(checkpoint.spec.layers[0].tensors["tokens"])


def test_a_truncated_download_is_refused_at_every_interesting_place(broken):
    folder = broken("llama")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    for length in (0, 4, 8, 9, 8 + header // 2, 8 + header, 9 + header, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            Checkpoint.open(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"hidden_size": NaN}', "[" * 50_000, "\ud800"]
)
def test_a_damaged_config_is_a_typed_error(broken, content):
    folder = broken("llama")
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Checkpoint.open(folder)


def test_no_folder_no_config_and_an_unknown_family_are_told_apart(broken, tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        Checkpoint.open(tmp_path / "absent")
    folder = broken("llama")
    rewrite(folder / "config.json", lambda c: c.update(model_type="gpt9"))
    with pytest.raises(UnknownFamily):
        Checkpoint.open(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        Checkpoint.open(folder)


def test_a_folder_of_another_format_needs_no_config_to_be_told(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="GGUF files are not read yet"):
        Checkpoint.open(tmp_path)


def test_a_folder_is_found_from_home_and_what_is_none_is_a_typed_error(broken, monkeypatch):
    folder = broken("llama")
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert Checkpoint.open("~/llama").folder == folder
    for path in ("", None, 7, "meta-llama/Llama-3.2-1B"):
        with pytest.raises(CheckpointError):
            Checkpoint.open(path)


def test_a_git_lfs_pointer_in_place_of_the_config_is_told(broken):
    folder = broken("llama")
    (folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    with pytest.raises(CheckpointError, match=r"config\.json is a git-lfs pointer"):
        Checkpoint.open(folder)


def test_end_tokens_come_from_the_generation_config_first(broken):
    folder = broken("llama")
    assert Checkpoint.open(folder).end_tokens == (1,)
    rewrite(folder / "generation_config.json", lambda c: c.update(eos_token_id=[6, 1, 6]))
    assert Checkpoint.open(folder).end_tokens == (6, 1)
    (folder / "generation_config.json").unlink()
    rewrite(folder / "config.json", lambda c: c.update(eos_token_id=[4, 5]))
    assert Checkpoint.open(folder).end_tokens == (4, 5)
    rewrite(folder / "config.json", lambda c: c.pop("eos_token_id"))
    assert Checkpoint.open(folder).end_tokens == ()


@pytest.mark.parametrize("value", [-1, 320, "1", True, [1, None], {"a": 1}])
def test_end_tokens_that_are_no_token_ids_are_an_error(broken, value):
    folder = broken("llama")
    rewrite(folder / "generation_config.json", lambda c: c.update(eos_token_id=value))
    with pytest.raises(CheckpointError, match="eos_token_id"):
        _ = Checkpoint.open(folder).end_tokens


def test_an_encoder_decoder_s_folder_says_how_answers_begin_and_what_is_never_said(broken):
    folder = broken("llama")
    checkpoint = Checkpoint.open(folder)
    assert (checkpoint.beginning, checkpoint.unspoken) == ((), ())
    checkpoint.spec = replace(checkpoint.spec, source=20)
    assert checkpoint.beginning == (checkpoint.config["bos_token_id"],)
    told = {"decoder_start_token_id": 7, "forced_bos_token_id": 9, "bad_words_ids": [[3], [4, 5]]}
    checkpoint.config = {**checkpoint.config, **told}
    assert (checkpoint.beginning, checkpoint.unspoken) == ((7, 9), (3,))
    rewrite(folder / "generation_config.json", lambda c: c.update(forced_bos_token_id=8))
    assert checkpoint.beginning == (7, 8)
    rewrite(folder / "generation_config.json", lambda c: c.update(decoder_start_token_id=999))
    with pytest.raises(CheckpointError, match="decoder_start_token_id 999"):
        _ = checkpoint.beginning
    (folder / "generation_config.json").unlink()
    checkpoint.config = {}
    with pytest.raises(CheckpointError, match="set decoder_start_token_id"):
        _ = checkpoint.beginning


def test_a_file_that_is_replaced_by_another_of_the_same_size_is_noticed(broken):
    folder = broken("llama")
    checkpoint = Checkpoint.open(folder)
    file, other = folder / "model.safetensors", folder / "other"
    other.write_bytes(file.read_bytes())
    other.replace(file)
    with pytest.raises(CheckpointError, match="was changed after it was opened"):
        checkpoint.identity()


def resave(folder, change):
    """Write a folder's one weight file anew, as `change` makes it of its tensors."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize("case", ["gpt2", "bloom"])
def test_a_model_saved_without_its_head_has_names_without_their_first_part(tmp_path, case):
    folder = tiny.make(case, tmp_path)
    before = Checkpoint.open(folder)
    wanted = [bytes(before.read(source).data) for source in all_sources(before)]
    resave(folder, lambda tensors: {n.removeprefix("transformer."): t for n, t in tensors.items()})
    after = Checkpoint.open(folder)
    after.check()
    assert [bytes(after.read(source).data) for source in all_sources(after)] == wanted


def test_causal_masks_among_the_weights_are_passed_over_but_no_bias_is(tmp_path):
    folder = tiny.make("gpt2", tmp_path)
    mask = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    resave(folder, lambda tensors: {**tensors, **mask})
    Checkpoint.open(folder).check()
    resave(folder, lambda tensors: {**tensors, "transformer.h.0.attn.bias": torch.ones(64)})
    with pytest.raises(CheckpointError, match=r"h\.0\.attn\.bias"):
        Checkpoint.open(folder).check()


@pytest.mark.parametrize("case", ["gpt_neox", "phi3", "falcon-40b"])
def test_a_fused_matrix_of_another_size_is_refused(tmp_path, case):
    folder = tiny.make(case, tmp_path)
    spec = Checkpoint.open(folder).spec
    name = spec.layers[1].tensors["v"].names[0]
    resave(folder, lambda ts: {**ts, name: torch.cat([ts[name], ts[name][:16]])})
    changed = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match="they do not belong together"):
        changed.check()
    with pytest.raises(CheckpointError, match="they do not belong together"):
        changed.read(spec.layers[1].tensors["q"])


def test_a_tied_head_that_is_stored_once_more_and_differs_is_refused_in_every_family(tmp_path):
    folder = tiny.make("biogpt", tmp_path)
    name = "biogpt.embed_tokens.weight"
    resave(folder, lambda ts: {**ts, "output_projection.weight": ts[name].clone()})
    Checkpoint.open(folder).check()
    resave(folder, lambda ts: {**ts, "output_projection.weight": ts[name] + 1})
    with pytest.raises(CheckpointError, match="output_projection"):
        Checkpoint.open(folder).check()
