"""Batches hold whole documents, asks are not learned, training lowers the loss and resumes."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from random import Random

import pytest
import torch

from manyhands.store.checkpoint import Checkpoint
from recipes.storyteller import tokens
from recipes.storyteller.__main__ import make_tokenizer
from recipes.storyteller.corpus import HEEDED, IGNORED, batches, document, documents
from recipes.storyteller.export import export
from recipes.storyteller.grammar import tell
from recipes.storyteller.net import Net, Shape
from recipes.storyteller.optimiser import orthogonal
from recipes.storyteller.training import Plan, losses_of, train

TINY = Shape(vocabulary=512, width=64, inner=96, blocks=3, heads=4, kv_heads=2, context=512)
PLAN = Plan(
    steps=60,
    warmup=5,
    decay=20,
    batch_tokens=2048,
    lessons=(200, 20, 0),
    keep_every=30,
)


@pytest.fixture(scope="module")
def made():
    return tokens.train((tell(Random(seed)).text for seed in range(200)), 512)


def test_a_question_is_read_but_not_learned(made):
    story = tell(Random(1))
    one = document(made, story, "Tell me a story.")
    asked = one.ids.index(tokens.STORY_ID)
    assert one.ids[0] == tokens.ASK_ID
    assert one.targets[:asked] == [IGNORED] * asked
    assert one.targets[asked:] == [*one.ids[asked + 1 :], tokens.END_ID]
    assert made.decode(one.ids[asked + 1 :]) == story.text


def test_taking_up_what_was_asked_counts_more(made):
    story = tell(Random(1))
    kind = story.cast[0].kind.noun
    one = document(made, story, f"Tell me about a {kind}.", careful=True)
    heeded = [at for at, weight in enumerate(one.weights) if weight == HEEDED]
    assert made.decode([one.targets[at] for at in heeded]).strip() == kind
    assert len(one.weights) == len(one.targets) == len(one.ids)
    assert HEEDED not in document(made, story, "Tell me a story.", careful=True).weights


def test_names_said_again_and_what_fits_the_wish_count_more(made):
    story = tell(Random(2))
    one = document(made, story, None, careful=True)
    said = made.decode([t for t, w in zip(one.targets, one.weights, strict=True) if w > 1])
    hero = story.cast[0].name
    assert said.count(hero) == story.text.count(hero) - 1
    assert all(phrase.lower() in said.lower() for phrase in story.bound)
    assert set(document(made, story, None).weights) == {1.0}


def test_batches_hold_whole_documents_and_little_padding(made):
    stream = documents(made, 3, (0, 0, 0), TINY.context)
    for batch in islice(batches(stream, 4096, 3), 20):
        assert batch.inputs.shape == batch.targets.shape
        assert batch.inputs.numel() <= 4096
        starts = set(batch.inputs[:, 0].tolist())
        assert starts <= {tokens.ASK_ID, tokens.STORY_ID}
        ends = (batch.targets == tokens.END_ID).sum(1)
        assert (ends >= 1).all()


def test_a_seed_gives_the_same_batches(made):
    def first(seed):
        stream = documents(made, seed, (10, 10, 10), TINY.context)
        return [batch.inputs.tolist() for batch in islice(batches(stream, 2048, seed), 5)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_the_rate_goes_up_stays_and_comes_down():
    rates = [PLAN.height_at(step) for step in range(60)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(rates[5:41]) == {1.0}
    assert rates[59] == pytest.approx(0.05)


def test_muon_turns_a_gradient_into_a_rotation():
    torch.manual_seed(1)
    for rows, columns in ((64, 32), (32, 96)):
        turned = orthogonal(torch.randn(3, rows, columns))
        values = torch.linalg.svdvals(turned)
        assert turned.shape == (3, rows, columns)
        assert values.min() > 0.5
        assert values.max() < 1.5


def test_what_is_exported_opens_with_the_right_shapes(made, tmp_path):
    torch.manual_seed(0)
    export(Net(TINY), made, tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    checkpoint.check()
    assert checkpoint.end_tokens == (tokens.END_ID,)


@pytest.mark.slow
def test_sixty_steps_of_a_tiny_model_lower_the_loss_and_can_be_resumed(tmp_path):
    made = make_tokenizer(1, count=300)
    shape = replace(TINY, vocabulary=made.get_vocab_size())
    said: list[str] = []
    _, done = train(made, shape, PLAN, tmp_path / "one", "cpu", said.append)
    torch.manual_seed(PLAN.seed)
    stream = documents(made, PLAN.seed, PLAN.lessons, shape.context)
    batch = next(batches(stream, PLAN.batch_tokens, PLAN.seed))
    losses = losses_of(Net(shape), batch, "cpu").detach()
    before = float(losses.sum() / (batch.targets != IGNORED).sum())
    assert done.held_out < before - 1.0
    train(made, shape, replace(PLAN, steps=30, decay=1), tmp_path / "two", "cpu", said.append)
    _, again = train(made, shape, PLAN, tmp_path / "two", "cpu", said.append)
    assert again.tokens == done.tokens
    assert again.held_out == pytest.approx(done.held_out, rel=0.05)
