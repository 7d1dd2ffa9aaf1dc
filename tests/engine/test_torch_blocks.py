"""The torch engine's own promises: dtypes, against numpy_blocks, threads, shared memory."""

import numpy as np
import pytest
import torch

import tiny
from engine_cases import session
from manyhands.domain.span import Span
from manyhands.engine import numpy_blocks, torch_blocks
from manyhands.engine.engine import Chunk
from manyhands.engine.torch_linear import low_precision_is_native
from manyhands.errors import BadSetting
from manyhands.store.checkpoint import Checkpoint

A, B = session(1), session(2)
TOKENS = tuple(3 + (11 * i * i) % 300 for i in range(60))


@pytest.fixture(scope="module", params=["float32", "bfloat16", "float16"])
def checkpoint(request, tmp_path_factory):
    return Checkpoint.open(tiny.make("qwen3", tmp_path_factory.mktemp("m"), request.param))


def load(checkpoint, dtype, span=None, engine=torch_blocks):
    span, options = span or checkpoint.spec.span, {"dtype": dtype} if dtype else {}
    return engine.load(checkpoint.spec, span, checkpoint.read, kv_bytes=1 << 24, **options)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("bf16", 0.35), ("fp16", 0.05)])
def test_every_dtype_is_near_the_reference(checkpoint, dtype, tolerance):
    """Whatever the file holds; bfloat16 has 8 bits, and these scores reach 7."""
    reference = load(checkpoint, None, engine=numpy_blocks).forward(TOKENS, None).scores
    engine = load(checkpoint, dtype)
    np.testing.assert_allclose(engine.forward(TOKENS, None).scores, reference, atol=tolerance)
    engine.open(A, 64)
    every = tuple(range(20))
    got = [engine.step([Chunk(A, p, TOKENS[p : p + 20], None, every)])[0] for p in (0, 20)]
    got += [engine.step([Chunk(A, p, TOKENS[p : p + 1], None, (0,))])[0] for p in range(40, 60)]
    scores = np.concatenate([output.scores for output in got])
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reference, atol=tolerance)


def test_auto_is_the_files_dtype_where_the_cpu_multiplies_it_and_fp32_elsewhere(checkpoint):
    stored = checkpoint.read(checkpoint.spec.layers[1].tensors["q"]).dtype
    name = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}[stored]
    native = name == "fp32" or low_precision_is_native(
        {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
    )
    spec = checkpoint.spec
    chosen = torch_blocks.resolve_dtype("auto", spec, spec.span, checkpoint.read)
    assert chosen == (name if native else "fp32")
    with pytest.raises(BadSetting, match="int3"):
        load(checkpoint, "int3")


def test_auto_never_takes_a_low_precision_that_the_cpu_lacks(checkpoint, monkeypatch):
    monkeypatch.setattr(torch_blocks, "low_precision_is_native", lambda dtype: False)
    spec = checkpoint.spec
    assert torch_blocks.resolve_dtype("auto", spec, spec.span, checkpoint.read) == "fp32"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_memory_takes_the_dtypes_bytes(checkpoint, dtype):
    engine = load(checkpoint, dtype)
    free = engine.room()
    engine.open(A, 64)
    engine.step([Chunk(A, 0, (5,), None, (0,))])
    used = free - engine.room()
    assert used == 64 * 6 * 2 * 2 * 32 * (4 if dtype == "fp32" else 2)


def test_a_failure_half_way_leaves_nothing_that_a_repeated_step_could_trip_over(checkpoint):
    engine = load(checkpoint, "fp32")
    engine.open(A, 64)
    engine.open(B, 64)
    engine.step([Chunk(A, 0, TOKENS[:9], None, (0,)), Chunk(B, 0, TOKENS[:9], None, (0,))])
    batch = [Chunk(A, 9, TOKENS[9:12], None, (2,)), Chunk(B, 4, TOKENS[4:6], None, (1,))]
    whole = engine._program._blocks[3].weights
    broken = {"mlp": _with(whole.mlp, down=lambda rows: torch.ones(1, 2) @ rows)}
    engine._program._blocks[3] = _with(engine._program._blocks[3], weights=_with(whole, **broken))
    with pytest.raises(RuntimeError):
        engine.step(batch)
    assert (engine.length(A), engine.length(B)) == (9, 4)
    engine._program._blocks[3] = _with(engine._program._blocks[3], weights=whole)
    reference = engine.forward(TOKENS[:12], None).scores
    for chunk, row in zip(batch, (11, 5), strict=True):
        scores = engine.step([chunk])[0].scores[0]
        np.testing.assert_allclose(scores, reference[row], atol=1e-4)


def _with(value, **changes):
    from dataclasses import replace

    return replace(value, **changes)


def test_a_tied_low_precision_head_is_shared_and_right(tmp_path):
    checkpoint = Checkpoint.open(tiny.make("qwen2-tied", tmp_path, "bfloat16"))
    whole = load(checkpoint, "bf16")
    parts = [load(checkpoint, "bf16", span) for span in (Span(0, 1), Span(1, 8))]
    assert sum(part.weight_bytes for part in parts) - whole.weight_bytes == 2 * 320 * 64
    hidden = parts[0].forward(TOKENS, None).hidden
    expected = parts[1].forward(TOKENS, hidden).scores
    np.testing.assert_allclose(whole.forward(TOKENS, None).scores, expected, atol=0.2)


def test_the_number_of_threads_is_set_at_load(checkpoint):
    before = torch.get_num_threads()
    try:
        torch_blocks.load(checkpoint.spec, Span(1, 2), checkpoint.read, kv_bytes=1, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_large_tensors_of_another_dtype_are_converted_piece_by_piece(monkeypatch, tmp_path):
    from manyhands.engine import torch_weights

    monkeypatch.setattr(torch_weights, "PIECE_ELEMENTS", 100)
    model = Checkpoint.open(tiny.make("granite", tmp_path))
    wide = torch_blocks.load(model.spec, Span(0, 1), model.read, kv_bytes=1, dtype="bf16")
    stored = model.read(model.spec.layers[0].tensors["tokens"])
    table = np.frombuffer(stored.data, np.float32).reshape(stored.shape)
    expected = torch.from_numpy(table.copy()).bfloat16() * 3
    got = wide.forward(tuple(range(320)), None).hidden
    np.testing.assert_array_equal(got, expected.float().numpy())


def test_profiles_tell_dtypes_and_engines_apart():
    made = [torch_blocks.profile("w", "bf16", "fp16", dtype) for dtype in ("fp32", "bf16", "fp16")]
    made.append(numpy_blocks.profile("w", "bf16", "fp16"))
    assert len({profile.digest() for profile in made}) == 4
    assert not any(profile.row_invariant for profile in made)
    assert all(0 < profile.tolerance < 0.1 for profile in made)
