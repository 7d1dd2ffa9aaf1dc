"""A matrix becomes two thin ones where it truly is of low rank, and nowhere else."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tiny
from converted_cases import cosines, dequantised
from engine_cases import LOADS, session
from manyhands.engine.engine import Chunk
from manyhands.engine.weights import read_float32
from manyhands.errors import CheckpointError, UserError
from manyhands.node.conversion import convert
from manyhands.node.thin import ranks_of, thin_matrices_of
from manyhands.plan.cost import Cost, weight_bytes
from manyhands.store.checkpoint import Checkpoint
from ordinary import ordinary, token_ids

THIN = {
    "llama": {
        "3.down": "model.layers.2.mlp.down_proj.weight",
        "5.down": "model.layers.4.mlp.down_proj.weight",
    },
    "bert": {"2.down": "encoder.layer.1.output.dense.weight"},
}
"""Matrices that are made of rank 6, by our names."""

BUDGET = 0.04
TOKENS = token_ids(4096)


def made_thin(folder, case):
    tiny.make(case, folder)
    tensors = load_file(folder / "model.safetensors")
    for name in THIN[case].values():
        out, into = tensors[name].shape
        tensors[name] = (ordinary(out, 6) @ ordinary(6, into, seed=1)) / 6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint.open(folder)


@pytest.fixture(scope="module", params=THIN)
def found(request, tmp_path_factory):
    """(case, source, what was found, the folder written with it, and without)."""
    place = tmp_path_factory.mktemp(request.param)
    source = made_thin(place / "plain", request.param)
    thin = thin_matrices_of(source, "int8", BUDGET, TOKENS, lambda _: None)
    convert(source, "int8", place / "thin", lambda _: None, thin)
    convert(source, "int8", place / "int8", lambda _: None)
    return request.param, source, thin, *(Checkpoint.open(place / f) for f in ("thin", "int8"))


def test_it_is_chosen_for_those_matrices_and_no_others(found):
    case, _, thin, made, plain = found
    assert set(thin) == set(THIN[case])
    assert all(one.rank <= 8 and one.error <= BUDGET for one in thin.values())
    made.check()
    span = made.spec.span
    assert made.stored_bytes(span) < plain.stored_bytes(span)
    assert made.identity() != plain.identity()


def test_the_error_that_is_told_is_that_of_texts_it_has_not_seen(found):
    case, source, thin, made, _ = found
    if case != "llama":
        pytest.skip("one case is enough")
    rows = []
    tensor = source.spec.layers[3].tensors["down"]
    LOADS["numpy"](
        source.spec, source.spec.span, source.read, kv_bytes=1,
        watch=lambda matrices, given: rows.append(given) if tensor in matrices else None,
    ).forward(token_ids(300, seed=9), None)  # fmt: skip
    exact = read_float32(tensor, source.read)
    held = read_float32(made.spec.layers[3].tensors["down"], made.read)
    given = np.concatenate(rows)
    outputs = given @ exact.T
    error = np.sqrt(np.square(given @ held.T - outputs).sum(1).mean() / outputs.var(0).sum())
    assert error == pytest.approx(thin["3.down"].error, rel=0.3)


@pytest.mark.parametrize("engine", LOADS)
def test_both_engines_run_it_near_its_numbers_in_float32_and_by_rows(found, engine):
    _, source, _, made, _ = found
    text = token_ids(33)
    spec, weights = dequantised(source, made)
    expected = LOADS["numpy"](spec, spec.span, weights, kv_bytes=1 << 20).forward(text, None)
    model = LOADS[engine](made.spec, made.spec.span, made.read, kv_bytes=1 << 22)
    got = model.forward(text, None)
    near = cosines(got.hidden, expected.hidden)
    assert near.min() > 0.95
    assert np.median(near) > 0.99
    for name in (session(1), session(2)):
        model.open(name, 64)
    rows = tuple(range(33))
    batch = [Chunk(session(2), 0, text[:5], None, (0,)), Chunk(session(1), 0, text, None, rows)]
    np.testing.assert_array_equal(model.step(batch)[1].hidden, got.hidden)
    counted = Cost(bytes_per_weight=4.0)
    held = weight_bytes(made.spec, made.spec.span, counted)
    assert model.weight_bytes == pytest.approx(held, rel=0.1)  # panels of 16 rows


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ({"3.down": 65}, "gives rank 65 to 3.down"),
        ({"3.down": 0}, "must be a whole number"),
        ({"0.tokens": 4}, "gives rank 4 to 0.tokens"),
        ({"9.nothing": 4}, "9.nothing, which is no matrix"),
        ({"3.down": 17}, "do not belong together"),
        ({}, "is missing"),
    ],
)
def test_ranks_that_are_not_those_of_the_folder_are_refused(found, tmp_path, ranks, told):
    case, _, _, made, _ = found
    if case != "llama":
        pytest.skip("one case is enough")
    folder = shutil.copytree(made.folder, tmp_path / "m")
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"]["low_rank"] = ranks
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=told):
        Checkpoint.open(folder).check()


def test_too_short_a_text_is_refused(found):
    with pytest.raises(UserError, match="has 300 tokens; give one of 512"):
        thin_matrices_of(found[1], "int4", BUDGET, TOKENS[:300], lambda _: None)


def test_nothing_is_chosen_where_a_rank_low_enough_loses_too_much(found):
    assert not thin_matrices_of(found[1], "int4", 1e-4, TOKENS[:512], lambda _: None)
    assert ranks_of({}) == {}
