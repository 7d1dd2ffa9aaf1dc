"""transformers == one engine == three engines, for every encoder, padded batches and images."""

import numpy as np
import pytest

import tiny
from encoder_cases import images, of_images, of_texts, squares, tokens
from engine_cases import LOADS, Stages, session
from manyhands.engine.engine import Chunk
from manyhands.errors import UserError
from manyhands.store.checkpoint import Checkpoint

TOLERANCE = 5e-5
LENGTHS = (40, 17, 1, 33)


@pytest.fixture(scope="module", params=tiny.ENCODERS)
def case(request, tmp_path_factory):
    folder = tiny.make(request.param, tmp_path_factory.mktemp("model"))
    return tiny.oracle(folder), Checkpoint.open(folder)


@pytest.fixture(scope="module", params=LOADS)
def models(request, case):
    oracle, checkpoint = case
    checkpoint.check()
    load = LOADS[request.param]
    whole = Stages(load, checkpoint.spec, checkpoint.read, ())
    return oracle, whole, Stages(load, checkpoint.spec, checkpoint.read, (3, 5))


def step(stages, texts, pixels=None):
    """The outputs of the last engine for whole sequences, one a session, all in one batch."""
    names = [session(number + 1) for number in range(len(texts))]
    hidden = [None] * len(texts) if pixels is None else pixels
    for engine in stages.engines:
        for name in names:
            engine.open(name, min(64, engine._spec.context))
        outputs = engine.step(
            [
                Chunk(name, 0, tuple(text), given, tuple(range(len(text))))
                for name, text, given in zip(names, texts, hidden, strict=True)
            ]
        )
        hidden = [output.hidden for output in outputs]
        assert engine.room() == 1 << 24  # nothing is kept
        for name in names:
            engine.close(name)
    return outputs


def check(ours, hidden, classes, kind):
    for number, (output, theirs) in enumerate(zip(ours, hidden, strict=True)):
        assert output.scores is None
        if kind != "classify":
            np.testing.assert_allclose(output.hidden, theirs, rtol=0, atol=TOLERANCE)
        expected = {
            "pool_mean": theirs.mean(0, keepdims=True),
            "pool_first": theirs[:1],
            "classify": None if classes is None else classes[number : number + 1].numpy(),
            "none": None,
        }[kind]
        if expected is None:
            assert output.pooled is None
        else:
            np.testing.assert_allclose(output.pooled, expected, rtol=0, atol=TOLERANCE)


def test_a_batch_of_sequences_is_that_of_transformers_however_it_pads(models):
    oracle, whole, three = models
    spec = three.engines[0]._spec
    kind = spec.head.kind
    patches = spec.embed.patches
    if patches is not None:
        pixels = images(patches, 3)
        hidden, classes = of_images(oracle, pixels)
        texts = [[0] * spec.context] * 3
        cut = [squares(one, patches) for one in pixels]
        for stages in (whole, three):
            check(step(stages, texts, cut), hidden, classes, kind)
        return
    texts = [tokens(count, seed) for seed, count in enumerate(LENGTHS)]
    for side in ("right", "left"):
        if side == "left" and kind == "classify":
            continue  # theirs takes the first token of the padding
        hidden, classes = of_texts(oracle, texts, side)
        for stages in (whole, three):
            check(step(stages, texts), hidden, classes, kind)


def test_one_sequence_runs_without_a_session(models):
    oracle, _, three = models
    spec = three.engines[0]._spec
    if spec.embed.patches is not None:
        pixels = images(spec.embed.patches, 1)
        hidden, classes = of_images(oracle, pixels)
        text, given = [0] * spec.context, squares(pixels[0], spec.embed.patches)
    else:
        text, given = tokens(29, 7), None
        hidden, classes = of_texts(oracle, [text])
    for engine in three.engines:
        output = engine.forward(text, given)
        given = output.hidden
    check([output], hidden, classes, spec.head.kind)


def test_a_step_that_goes_on_is_refused(models):
    _, whole, _ = models
    (engine,) = whole.engines
    spec, name = engine._spec, session(9)
    patches = spec.embed.patches
    text = tuple(tokens(4)) if patches is None else (0,) * spec.context
    given = None if patches is None else squares(images(patches, 1)[0], patches)
    engine.open(name, spec.context)
    engine.step([Chunk(name, 0, text, given, (0,))])
    with pytest.raises(UserError, match="keeps no memory"):
        engine.step([Chunk(name, 1, text, given, (0,))])
    engine.close(name)
