"""The universal path beside transformers itself: one stage and three say what the whole model says.

Sessions step together at different lengths; each must say what it says alone.
"""

import itertools
import json
import sys

import numpy as np
import pytest
import torch
import transformers

from engine_cases import session
from manyhands.domain.model_spec import ModuleSpec
from manyhands.domain.sizes import span_elements, span_kv_elements
from manyhands.domain.span import Span
from manyhands.engine import module_library as library
from manyhands.engine import module_proof
from manyhands.engine.choice import choose, spec_of
from manyhands.engine.engine import Chunk
from manyhands.engine.module_cut import Mismatch
from manyhands.engine.module_memory import KEPT_STATES, ModuleMemory
from manyhands.errors import (
    BadSetting,
    CheckpointError,
    ContextOverflow,
    NotServed,
    ResourceError,
    SessionUnknown,
    UnknownFamily,
    UserError,
)
from manyhands.store.checkpoint import Checkpoint
from universal_cases import OTHER, PROMPT, Stages, config_of, make, oracle, says, with_slow

pytestmark = pytest.mark.timeout(300)
A, B = session(1), session(2)
STEPS = 32
KINDS = ("qwen3_next", "phimoe", "xglm", "mamba", "cohere2_moe", "zamba2")
"""Linear and full attention mixed; experts; alibi; recurrent; windows; side tensors, ties."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = make(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


def assert_same(mine, theirs):
    """Equal, but for what kernels round when rows are computed in other company."""
    assert np.abs(mine - theirs).max() <= 2e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("kind", with_slow(KINDS, ["qwen3_next"]))
def test_one_stage_and_three_say_what_the_model_says(folders, kind):
    model = oracle(folders(kind))
    truths = {A: says(model, PROMPT, STEPS), B: says(model, OTHER, STEPS)}
    for cuts in ((), (3, 5)):
        stages = Stages(folders(kind), cuts)
        for name, prompt in ((A, PROMPT), (B, OTHER)):
            stages.open(name, 64)
            assert_same(stages.step((name, 0, prompt))[0], truths[name][0])
        lengths = {A: len(PROMPT), B: len(OTHER)}
        for step in range(STEPS):
            parts = [(n, lengths[n] + step, [truths[n][step][-1].argmax()]) for n in (A, B)]
            for name, said in zip((A, B), stages.step(*parts), strict=True):
                assert_same(said, truths[name][step + 1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_in_chunks_is_the_text_at_once(folders, kind):
    truth = says(oracle(folders(kind)), PROMPT, 0)[0]
    stages = Stages(folders(kind), (3, 5))
    stages.open(A, 64)
    said = [stages.step((A, a, PROMPT[a:b]))[0] for a, b in ((0, 4), (4, 10), (10, 13))]
    assert np.abs(np.concatenate(said) - truth).max() < 1e-2 * np.abs(truth).max()


def test_rows_padded_on_the_left_in_one_batch_say_what_sessions_say(folders):
    model, stages = oracle(folders("phimoe")), Stages(folders("phimoe"), (3, 5))
    padded = [*[0] * (len(PROMPT) - len(OTHER)), *OTHER]
    mask = [[1] * len(PROMPT), [int(place >= len(PROMPT) - len(OTHER)) for place in range(13)]]
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([PROMPT, padded]), attention_mask=torch.tensor(mask))
    for name, prompt, truth in ((A, PROMPT, out.logits[0]), (B, OTHER, out.logits[1])):
        stages.open(name, 64)
        said = stages.step((name, 0, prompt))[0]
        assert np.abs(said - truth[-len(prompt) :].numpy()).max() < 1e-4


def test_an_encoder_runs_whole_texts_and_goes_on_with_none(tmp_path):
    folder = make("ernie", tmp_path / "m")
    with torch.inference_mode():
        truth = oracle(folder)(input_ids=torch.tensor([PROMPT])).logits[0].numpy()
    for cuts in ((), (3, 5)):
        stages = Stages(folder, cuts)
        assert_same(stages.forward(PROMPT), truth)
        stages.open(A, 64)
        assert_same(stages.step((A, 0, PROMPT))[0], truth)
        with pytest.raises(NotServed, match="ernie keeps no memory"):
            stages.engines[0].step([Chunk(A, len(PROMPT), (5,), None, (0,))])


def test_forward_without_memory_is_the_same(folders):
    truth = says(oracle(folders("phimoe")), PROMPT, 0)[0]
    assert_same(Stages(folders("phimoe"), (3, 5)).forward(PROMPT), truth)


@pytest.mark.parametrize("kind", ["phimoe", "mamba"])
def test_a_memory_goes_back_and_says_the_same_again(folders, kind):
    stages = Stages(folders(kind), (3,))
    stages.open(A, 64)
    stages.step((A, 0, PROMPT))
    said = [stages.step((A, len(PROMPT) + n, [20 + n]))[0] for n in range(3)]
    again = stages.step((A, len(PROMPT) + 1, [21]))[0]
    assert_same(again, said[1])
    assert stages.engines[0].length(A) == len(PROMPT) + 2


def test_a_recurrent_state_that_is_kept_no_more_closes_the_session(folders):
    stages = Stages(folders("mamba"), ())
    engine = stages.engines[0]
    stages.open(A, 64)
    stages.step((A, 0, PROMPT))
    for n in range(KEPT_STATES):
        stages.step((A, len(PROMPT) + n, [20 + n]))
    with pytest.raises(SessionUnknown, match="open it anew"):
        engine.truncate(A, len(PROMPT))
    with pytest.raises(SessionUnknown):
        engine.length(A)
    assert engine.room() == 1 << 26


def test_a_fork_goes_its_own_way(folders):
    stages = Stages(folders("phimoe"), (3,))
    stages.open(A, 64)
    stages.step((A, 0, PROMPT))
    stages.open(B, 64, A, len(PROMPT))
    one, other = stages.step((A, len(PROMPT), [20]), (B, len(PROMPT), [30]))
    stages.open(session(3), 64)
    alone = stages.step((session(3), 0, (*PROMPT, 30)))[0]
    assert_same(other, alone[-1:])
    assert np.abs(one - other).max() > 0.01


def test_bytes_are_counted_before_anything_is_computed(folders):
    spec = Checkpoint.open(folders("phimoe"), spec_of).spec
    token = 4 * span_kv_elements(spec, spec.span)
    assert token == 4 * 6 * 2 * 2 * 16  # blocks, keys and values, heads, head width
    engine = Stages(folders("phimoe"), (), kv_bytes=20 * token).engines[0]
    engine.open(A, 64)
    engine.step([Chunk(A, 0, PROMPT, None, (0,))])
    assert engine.room() == 7 * token
    with pytest.raises(ResourceError, match="kv_bytes"):
        engine.step([Chunk(A, len(PROMPT), tuple(range(9, 17)), None, (0,))])
    assert engine.length(A) == len(PROMPT)
    engine.close(A)
    assert engine.room() == 20 * token


def test_what_is_asked_wrongly_is_refused(folders):
    engine = Stages(folders("phimoe"), (3,)).engines[1]
    width = engine._spec.width
    engine.open(A, 8)
    wrong = {
        "needs hidden states": Chunk(A, 0, (5,), None, ()),
        "float32": Chunk(A, 0, (5,), np.zeros((1, width + 1), np.float32), ()),
        "token ids": Chunk(A, 0, (320,), np.zeros((1, width), np.float32), ()),
        "holds": Chunk(A, 3, (5,), np.zeros((1, width), np.float32), ()),
        "side tensors": Chunk(
            A, 0, (5,), np.zeros((1, width), np.float32), (), {"x": np.zeros((1, 1), np.float32)}
        ),
    }
    for match, chunk in wrong.items():
        with pytest.raises(UserError, match=match):
            engine.step([chunk])
    with pytest.raises(ContextOverflow):
        engine.step([Chunk(A, 0, (5,) * 9, np.zeros((9, width), np.float32), ())])
    with pytest.raises(ContextOverflow):
        engine.open(B, 1 << 30)


def test_a_span_takes_its_own_weights_only(folders):
    stages = Stages(folders("phimoe"), (3, 5))
    spec = stages.checkpoint.spec
    assert all(isinstance(layer.part, ModuleSpec) for layer in spec.layers)
    for engine in stages.engines:
        held = 4 * span_elements(spec, engine.span)
        assert held <= engine.weight_bytes <= held + 4096  # and a zero for each that is not here
    total = sum(w.numel() for w in oracle(folders("phimoe")).parameters())
    assert span_elements(spec, spec.span) == total


def test_bf16_is_near(folders):
    checkpoint = Checkpoint.open(folders("jetmoe"), spec_of)
    truth = says(oracle(folders("jetmoe")), PROMPT, 0)[0]
    kind = choose("auto", "bf16", None, checkpoint.spec, checkpoint.read)
    said = kind.load(checkpoint.spec.span, 1 << 24).forward(PROMPT, None).scores
    assert 1e-4 < np.abs(said - truth).max() / np.abs(truth).max() < 0.1
    assert kind.profile("w").kernels.startswith("torch-bf16-modules")


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_library_it_says_what_to_install(folders, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NotServed, match=rf"no family file.*{missing} is not installed.*models"):
        Checkpoint.open(folders("phimoe"), spec_of)


def test_another_version_of_the_library_is_refused(monkeypatch):
    monkeypatch.setattr(transformers, "__version__", "5.99.0")
    with pytest.raises(NotServed, match=r"5\.99\.0.*pip install"):
        spec_of(config_of("phimoe"), {})


def test_code_from_the_folder_is_never_run(tmp_path):
    (tmp_path / "theirs.py").write_text("raise SystemExit('it ran')")
    folder = make("phimoe", tmp_path / "m")
    (folder / "theirs.py").write_text("raise SystemExit('it ran')")
    config = json.loads((folder / "config.json").read_text())
    theirs = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": theirs}))
    stages = Stages(folder, ())
    assert type(stages.engines[0]._steps._stage.model).__module__.startswith(
        "transformers.models.phimoe"
    )


def test_numpy_cannot_and_says_so(folders):
    checkpoint = Checkpoint.open(folders("phimoe"), spec_of)
    with pytest.raises(BadSetting, match="phimoe has no family file"):
        choose("numpy", "auto", None, checkpoint.spec, checkpoint.read)


@pytest.mark.parametrize(
    ("config", "error", "match"),
    [
        ({"model_type": "gpt9"}, UnknownFamily, "gpt9"),
        ({"model_type": "gpt9", "auto_map": {"AutoModel": "x.Y"}}, UnknownFamily, "never run"),
        (config_of("phimoe", architectures=["Glm4Thing"]), NotServed, "Glm4Thing"),
        (config_of("phimoe", num_hidden_layers=10**9), CheckpointError, "num_hidden_layers"),
        (config_of("phimoe", hidden_size="wide"), CheckpointError, "phimoe"),
        (config_of("phimoe", quantization_config={"quant_method": "x"}), NotServed, "quantised"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(config, error, match):
    with pytest.raises(error, match=match):
        spec_of(config, {})


def test_blocks_that_share_their_weights_are_no_row():
    config = transformers.AlbertConfig(num_hidden_layers=4, hidden_size=64).to_dict()
    with pytest.raises(NotServed, match=r"albert cannot be run in stages.*no spine"):
        spec_of({**config, "architectures": ["AlbertForMaskedLM"]}, {})


@pytest.mark.parametrize(
    ("model_type", "architecture", "match"),
    [
        ("whisper", "WhisperForConditionalGeneration", "takes input_features"),
        ("beit", "BeitModel", "takes pixel_values"),
    ],
)
def test_what_is_not_asked_by_token_ids_alone_is_refused(model_type, architecture, match):
    config = {"model_type": model_type}
    with pytest.raises(NotServed, match=f"{model_type}.*{match}"):
        spec_of({**config, "architectures": [architecture]}, {})


@pytest.mark.parametrize("defence", ["_replace_untouched", "_begin"])
def test_the_proof_notices_a_memory_that_is_wrong(folders, monkeypatch, defence):
    """Lengths of an empty cache; windows that forget what a cut needs."""
    plan = module_proof.plan_of(config_of("cohere2_moe"))
    config = json.loads(library.as_text(config_of("cohere2_moe")))
    twin = module_proof.twin_of(config)
    assert module_proof.check(twin, config, plan) == 0
    if defence == "_begin":
        monkeypatch.setattr(transformers.DynamicCache, "activate_past_recording", lambda _: None)
    else:
        monkeypatch.setattr(ModuleMemory, defence, lambda _: None)
    with pytest.raises((Mismatch, RuntimeError)):
        module_proof.check(twin, config, plan)


def test_weights_that_do_not_belong_to_the_config_are_noticed(folders):
    checkpoint = Checkpoint.open(folders("phimoe"), spec_of)
    config = checkpoint.config
    stored = {name: place.shape for name, place in checkpoint._places.items()}
    one = next(name for name in stored if "layers.4" in name and "q_proj" in name)
    with pytest.raises(CheckpointError, match="q_proj"):
        spec_of(config, {name: shape for name, shape in stored.items() if name != one})
    with pytest.raises(CheckpointError, match="no_such"):
        spec_of(config, {**stored, one.replace("q_proj", "no_such"): (1,)})


def test_a_folder_of_other_widths_is_refused_when_it_is_loaded(tmp_path, folders):
    folder = make("phimoe", tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 80}))
    checkpoint = Checkpoint.open(folder, spec_of)
    kind = choose("auto", "auto", None, checkpoint.spec, checkpoint.read)
    with pytest.raises(CheckpointError, match="do not fit"):
        kind.load(Span(0, 3), 1 << 20)


def test_every_place_may_be_cut(folders):
    truth = says(oracle(folders("cohere2_moe")), PROMPT, 1)
    layers = len(Stages(folders("cohere2_moe"), ()).checkpoint.spec.layers)
    for cut in itertools.islice(range(1, layers), 0, None, 2):
        stages = Stages(folders("cohere2_moe"), (cut,))
        stages.open(A, 64)
        assert_same(stages.step((A, 0, PROMPT))[0], truth[0])
        said = stages.step((A, len(PROMPT), [truth[0][-1].argmax()]))[0]
        assert_same(said, truth[1])
