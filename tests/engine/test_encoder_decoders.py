"""Encoder-decoders beside transformers itself: a source read whole, then an answer said of it.

One stage, three and five must say what the whole model says; sessions step together.
"""

import json
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from engine_cases import session
from manyhands.domain.sizes import span_kv_elements
from manyhands.engine import module_library as library
from manyhands.engine import module_proof, module_stage
from manyhands.engine.choice import choose, spec_of
from manyhands.engine.engine import Chunk
from manyhands.engine.module_cut import Mismatch
from manyhands.engine.module_memory import SourceMemory, elements
from manyhands.errors import ContextOverflow, NotServed, ResourceError, SessionUnknown, UserError
from manyhands.store.checkpoint import Checkpoint
from universal_cases import (
    OTHER,
    PROMPT,
    READERS,
    Stages,
    config_of,
    make,
    oracle,
    reads,
    with_slow,
)

pytestmark = pytest.mark.timeout(300)
A, B = session(1), session(2)
BEGINS = (3, 40)
STEPS = 16
FIVE = (3, 6, 9, 12)
"""Within the encoder, across its end at 7, and within the decoder."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = make(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


def assert_same(mine, theirs):
    assert mine.shape == theirs.shape
    assert np.abs(mine - theirs).max() <= 2e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("kind", with_slow(READERS, READERS[1:4] + READERS[5:]))
def test_one_stage_three_and_five_say_what_the_model_says(folders, kind):
    model = oracle(folders(kind))
    sources = {A: PROMPT, B: OTHER}
    truths = {name: reads(model, source, BEGINS, STEPS) for name, source in sources.items()}
    for cuts in ((), (4, 9), FIVE):
        stages = Stages(folders(kind), cuts)
        for name, source in sources.items():
            stages.open(name, 64)
            stages.read(name, source)
            said = stages.step((name, len(source), BEGINS))[0]
            assert_same(said, truths[name][0])
        for step in range(STEPS):
            parts = [
                (name, len(sources[name]) + 2 + step, [truths[name][step][-1].argmax()])
                for name in (A, B)
            ]
            for name, said in zip((A, B), stages.step(*parts), strict=True):
                assert_same(said, truths[name][step + 1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_every_place_may_be_cut(folders, kind):
    truth = reads(oracle(folders(kind)), PROMPT, BEGINS, 1)
    for cut in range(1, 14):
        stages = Stages(folders(kind), (cut,))
        stages.open(A, 64)
        stages.read(A, PROMPT)
        assert_same(stages.step((A, len(PROMPT), BEGINS))[0], truth[0])
        said = stages.step((A, len(PROMPT) + 2, [truth[0][-1].argmax()]))[0]
        assert_same(said, truth[1])


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_what_was_said_may_be_said_again_and_otherwise(folders, kind):
    model, stages, end = oracle(folders(kind)), Stages(folders(kind), FIVE), len(PROMPT)
    stages.open(A, 64)
    stages.read(A, PROMPT)
    stages.step((A, end, BEGINS))
    said = [stages.step((A, end + 2 + n, [20 + n]))[0] for n in range(3)]
    assert_same(stages.step((A, end + 3, [21]))[0], said[1])
    chunk = stages.step((A, end + 2, [20, 21, 22]))[0]
    assert_same(chunk, np.concatenate(said))
    other = reads(model, PROMPT, (3, 50, 51), 0)[0]  # the answer begins anew, the source stays
    assert_same(stages.step((A, end, (3, 50, 51)))[0], other)
    stages.read(A, OTHER)  # another source
    assert_same(stages.step((A, len(OTHER), BEGINS))[0], reads(model, OTHER, BEGINS, 0)[0])


def test_a_fork_goes_its_own_way(folders):
    stages = Stages(folders("t5"), (4, 9))
    stages.open(A, 64)
    stages.read(A, PROMPT)
    stages.step((A, len(PROMPT), BEGINS))
    stages.open(B, 64, A, len(PROMPT) + 1)
    one, other = stages.step((A, len(PROMPT) + 2, [20]), (B, len(PROMPT) + 1, [30]))
    assert_same(other, reads(oracle(folders("t5")), PROMPT, (3, 30), 0)[0][-1:])
    assert np.abs(one - other).max() > 0.01
    with pytest.raises(UserError, match="cannot share 4 tokens"):
        stages.engines[0].open(session(3), 64, A, 4)


def test_a_source_is_never_cut(folders):
    stages = Stages(folders("t5"), (4,))
    first, second = stages.engines
    stages.open(A, 64)
    stages.read(A, PROMPT)
    stages.step((A, len(PROMPT), BEGINS))
    with pytest.raises(UserError, match="inside the 13 tokens to be read"):
        first.step([Chunk(A, 5, (9,), None, ())])
    assert first.length(A) == len(PROMPT) + 2
    for engine in (first, second):
        with pytest.raises(SessionUnknown, match="open it anew"):
            engine.truncate(A, 5)
        with pytest.raises(SessionUnknown):
            engine.length(A)
        assert engine.room() == 1 << 26


def test_what_is_asked_wrongly_is_refused(folders):
    engine = Stages(folders("bart"), ()).engines[0]
    engine.open(A, 1024)
    assert engine._spec.source == 512
    assert engine._spec.context == 1024
    with pytest.raises(ContextOverflow, match="has 513 tokens, this model takes 512"):
        engine.step([Chunk(A, 0, (9,) * 513, None, ())])
    with pytest.raises(UserError, match="asked for answers"):
        engine.step([Chunk(A, 0, PROMPT, None, (0,))])
    engine.step([Chunk(A, 0, PROMPT, None, ())])
    with pytest.raises(ContextOverflow, match="says 512 tokens at most"):
        engine.step([Chunk(A, len(PROMPT), (9,) * 513, None, ())])
    with pytest.raises(NotServed, match="open a session"):
        engine.forward(PROMPT, None)


def test_bytes_of_source_and_answer_are_counted(folders):
    stages = Stages(folders("bart"), (7,))
    spec = stages.checkpoint.spec
    token = 4 * span_kv_elements(spec, spec.span)
    assert token == 4 * 6 * 2 * 64  # of the decoder's blocks alone
    reading, saying = stages.engines
    assert span_kv_elements(spec, reading.span) == 0
    stages.open(A, 64)
    stages.read(A, PROMPT)
    stages.step((A, len(PROMPT), BEGINS))
    assert reading.room() == 1 << 26
    assert saying.room() == (1 << 26) - 15 * token
    held = saying._sessions.named(A).memory
    assert sum(map(elements, held.kept)) * 4 <= 15 * token
    assert held.rows.untyped_storage().nbytes() == 4  # keys were made of them
    small = Stages(folders("bart"), (), kv_bytes=12 * token).engines[0]
    small.open(A, 64)
    with pytest.raises(ResourceError, match="kv_bytes"):
        small.step([Chunk(A, 0, PROMPT, None, ())])


def rewritten(folder, change):
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    change(tensors)
    safetensors.torch.save_file(tensors, file, {"format": "pt"})


def test_a_bias_of_the_scores_is_read_and_sines_need_not_be_there(tmp_path):
    folder = make("marian", tmp_path / "m")
    before = reads(oracle(folder), PROMPT, BEGINS, 0)[0]

    def change(tensors):
        tensors["final_logits_bias"] = torch.linspace(0, 3, 320)[None]
        for name in [name for name in tensors if "embed_positions" in name]:
            del tensors[name]

    rewritten(folder, change)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = reads(oracle(folder), PROMPT, BEGINS, 0)[0]
    assert np.abs(truth - before).max() > 1
    for cuts in ((), FIVE):
        stages = Stages(folder, cuts)
        stages.open(A, 64)
        stages.read(A, PROMPT)
        assert_same(stages.step((A, len(PROMPT), BEGINS))[0], truth)


def test_bf16_is_near(folders):
    checkpoint = Checkpoint.open(folders("t5"), spec_of)
    truth = reads(oracle(folders("t5")), PROMPT, BEGINS, 0)[0]
    kind = choose("auto", "bf16", None, checkpoint.spec, checkpoint.read)
    engine = kind.load(checkpoint.spec.span, 1 << 24)
    engine.open(A, 64)
    engine.step([Chunk(A, 0, PROMPT, None, ())])
    said = engine.step([Chunk(A, len(PROMPT), BEGINS, None, (0, 1))])[0].scores
    assert 1e-4 < np.abs(said - truth).max() / np.abs(truth).max() < 0.1


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "defence", [pytest.param("bias", marks=SLOW), "rows", pytest.param("length", marks=SLOW)]
)
def test_the_proof_notices_what_is_wrong(monkeypatch, defence):
    """No bias of positions behind the first stage; no source in memory; an answer's length lost."""
    config = json.loads(library.as_text(config_of("t5")))
    plan, twin = module_proof.plan_of(config), module_proof.twin_of(config)
    assert module_proof.check(twin, config, plan) == 0
    if defence == "bias":
        monkeypatch.setattr(module_stage, "lend", lambda *_: None)
    elif defence == "rows":
        begin = SourceMemory.begin
        monkeypatch.setattr(
            SourceMemory, "begin", lambda self, rows, is_needed: begin(self, rows * 0, is_needed)
        )
    else:
        monkeypatch.setattr("manyhands.engine.module_memory._lengthen", lambda *_: None)
    with pytest.raises((Mismatch, RuntimeError)):
        module_proof.check(twin, config, plan)


@pytest.mark.parametrize(
    ("model_type", "architecture", "match"),
    [
        ("whisper", "WhisperForConditionalGeneration", "takes input_features, not token ids"),
        ("speech_to_text", "Speech2TextForConditionalGeneration", "takes input_features"),
        ("vision-encoder-decoder", "VisionEncoderDecoderModel", "takes pixel_values"),
        ("pegasus_x", "PegasusXForConditionalGeneration", "not a row a token"),
        ("bigbird_pegasus", "BigBirdPegasusForConditionalGeneration", "cannot be shipped"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(model_type, architecture, match):
    halves = {"encoder": {"model_type": "vit"}, "decoder": {"model_type": "gpt2"}}
    given = halves if model_type == "vision-encoder-decoder" else {}
    config = transformers.CONFIG_MAPPING[model_type](**given).to_dict()
    config |= {"model_type": model_type, "architectures": [architecture]}
    with pytest.raises(NotServed, match=f"{model_type}.*{match}"):
        spec_of(config, {})
