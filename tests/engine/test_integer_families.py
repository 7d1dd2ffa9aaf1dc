"""Every family in integers: near the same numbers in float32, and each row's bits its own."""

from itertools import pairwise

import numpy as np
import pytest

import tiny
from converted_cases import cosines, dequantised, folders_in
from engine_cases import LOADS, session
from manyhands.domain.span import Span
from manyhands.engine.engine import Chunk
from ordinary import ordinary, token_ids

FORMS = ("int8", "int4")
CASES = [
    pytest.param(case, marks=pytest.mark.slow) if case in tiny.SLOW else case for case in tiny.ALL
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return folders_in(tmp_path_factory.mktemp("models"))


def given(spec, count, seed=0):
    """Token ids, and an image where the model takes one."""
    patches = spec.embed.patches
    if patches is None:
        return token_ids(count, seed), None
    return (0,) * spec.context, ordinary(patches.squares, patches.elements, seed=seed)


def loaded(engine, spec, weights, span=None):
    return LOADS[engine](spec, span or spec.span, weights, kv_bytes=1 << 24)


def rows_of(output):
    """Scores of every row, or where the model makes none its vectors."""
    return output.hidden if output.scores is None else output.scores


def bits(output):
    """Everything that came out."""
    given = (output.hidden, output.scores, output.pooled)
    return [np.ascontiguousarray(one).view(np.int32) for one in given if one is not None]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_each_layer_is_near_the_same_numbers_in_float32_on_both_engines(folders, case, form):
    """Of a mixture a row here and there falls to another expert, as two scores are almost equal."""
    plain, made = folders(case, form)
    made.check()
    text, hidden = given(made.spec, 33)
    spec, weights = dequantised(plain, made)
    for layer in range(len(spec.layers)):
        span = Span(layer, layer + 1)
        expected = loaded("numpy", spec, weights, span).forward(text, hidden)
        is_mixed = layer in range(1, len(spec.blocks) + 1) and spec.blocks[layer - 1].moe
        for engine in LOADS:
            got = loaded(engine, made.spec, made.read, span).forward(text, hidden)
            near = cosines(rows_of(got), rows_of(expected)) > 0.99
            assert near.mean() >= (0.9 if is_mixed else 1.0), f"{engine}, layer {layer}"
        hidden = expected.hidden


@pytest.mark.parametrize("engine", LOADS)
@pytest.mark.parametrize("case", CASES)
def test_bits_are_the_same_however_a_text_is_cut_and_whatever_is_beside_it(folders, case, engine):
    _, made = folders(case, "int4")
    spec, model = made.spec, loaded(engine, made.spec, made.read)
    text, image = given(spec, 33)
    whole = model.forward(text, image)
    limit = min(64, spec.context)
    names = [session(number) for number in range(4)]
    for name in names:
        model.open(name, limit)
    cuts = (0, 1, 9, 10, 33) if spec.keeps_memory else (0, len(text))
    for first, last in pairwise(cuts):
        rows = tuple(range(last - first))
        batch = [Chunk(names[0], first, text[first:last], image, rows)]
        for number, name in enumerate(names[1:], 1):
            other, picture = given(spec, 3 * number, number)
            batch.insert(number % 2, Chunk(name, 0, other, picture, (0,)))
        outputs = model.step(batch)
        (ours,) = (
            out for out, chunk in zip(outputs, batch, strict=True) if chunk.session == names[0]
        )
        for one, two in zip(bits(ours), bits(whole), strict=True):
            is_row = len(two) == len(text)
            np.testing.assert_array_equal(one, two[first:last] if is_row else two)
