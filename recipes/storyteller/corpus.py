"""An endless stream of documents, and of batches of whole documents, from one seed.

A document is one story, asked for or not, or a shelf of a few stories up to the whole context. A
batch holds documents of about one length, so that hardly anything is padding; each starts at
position 0 and sees itself only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import tokenizers
import torch

from recipes.storyteller import tokens
from recipes.storyteller.asks import ask_for
from recipes.storyteller.grammar import Size, Story, tell

SHELF = 0.03
"""Share of documents that are several stories one after another."""

ASKED = 0.6
EXACTLY_ASKED = 0.85
"""Shares of stories that are asked for, in the lessons and after them."""

HEEDED = 5.0
NAMED_AGAIN = 3.0
BOUND = 3.0
"""How much more than any other token it counts, after the lessons, to take up what the ask says, to
say a name again, and to say what fits this wish and no other."""

POOL = 384
"""Documents sorted by length at a time."""

IGNORED = -100


class Document(NamedTuple):
    """Token ids, what each place should say next (IGNORED: nothing), and how much that counts."""

    ids: list[int]
    targets: list[int]
    weights: list[float]


class Batch(NamedTuple):
    """Documents as rows (rows, length); `size` is how many tokens are no padding."""

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    size: int


def document(
    made: tokenizers.Tokenizer, story: Story, ask: str | None, careful: bool = False
) -> Document:
    """`<|ask|>…<|story|>…<|end|>`; the ask is read, not learned. `careful`: some counts more."""
    asked = [] if ask is None else [tokens.ASK_ID, *_encode(made, ask)]
    coded = made.encode(story.text, add_special_tokens=False)
    told = [tokens.STORY_ID, *coded.ids, tokens.END_ID]
    weights = [1.0] * (len(asked) + len(told) - 1)
    if careful:
        letters = _counted(story, ask or "")
        for at, (start, end) in enumerate(coded.offsets, len(asked)):
            weights[at] = max(letters[start:end], default=1.0)
    ids = asked + told
    return Document(ids[:-1], [IGNORED] * len(asked) + told[1:], weights)


def _counted(story: Story, ask: str) -> list[float]:
    """How much each letter of a story counts."""
    text = story.text.lower()
    letters = [1.0] * len(text)

    def count(start: int, phrase: str, weight: float) -> None:
        letters[start : start + len(phrase)] = [weight] * len(phrase)

    for phrase in story.bound:
        count(text.index(phrase.lower()), phrase, BOUND)
    for one in story.cast:
        for again in list(re.finditer(rf"\b{one.name}\b", story.text))[1:]:
            count(again.start(), one.name, NAMED_AGAIN)
    for phrase in (story.cast[0].kind.noun, story.wish, story.place.first):
        if phrase in ask and phrase in text:
            count(text.index(phrase), phrase, HEEDED)
    return letters


def documents(
    made: tokenizers.Tokenizer,
    seed: int,
    lessons: tuple[int, int, int],
    context: int,
) -> Iterator[Document]:
    """Without end; `lessons` is how many tiny, short and loosely asked ones come first."""
    rng = Random(f"storyteller {seed}")  # a text seeds by SHA-512: the same everywhere
    count = 0
    while True:
        size: Size = (
            "tiny" if count < lessons[0] else "short" if count < sum(lessons[:2]) else "full"
        )
        exact = count >= sum(lessons)
        count += 1
        made_one = _one(made, rng, size, exact)
        if size == "full" and rng.random() < SHELF:
            while len(made_one.ids) < context:
                more = _one(made, rng, "full", exact)
                ids = [*made_one.ids, tokens.END_ID, *more.ids]
                if len(ids) > context:
                    break
                targets = [*made_one.targets, IGNORED, *more.targets]
                weights = [*made_one.weights, 1.0, *more.weights]
                made_one = Document(ids, targets, weights)
        yield made_one


def _one(made: tokenizers.Tokenizer, rng: Random, size: Size, exact: bool) -> Document:
    story = tell(rng, size)
    share = EXACTLY_ASKED if exact else ASKED
    asked = ask_for(story, rng, exact) if rng.random() < share else None
    return document(made, story, asked, careful=exact)


def batches(stream: Iterator[Document], most_tokens: int, seed: int) -> Iterator[Batch]:
    """Batches of at most `most_tokens` places, padding counted."""
    rng = Random(f"batches {seed}")
    while True:
        pool = sorted((next(stream) for _ in range(POOL)), key=lambda one: len(one.ids))
        cut: list[list[Document]] = [[]]
        for one in pool:
            if (len(cut[-1]) + 1) * len(one.ids) > most_tokens:
                cut.append([])
            cut[-1].append(one)
        rng.shuffle(cut)
        yield from map(_batch, cut)


def _batch(rows: list[Document]) -> Batch:
    length = max(len(one.ids) for one in rows)
    inputs = torch.full((len(rows), length), tokens.PAD_ID)
    targets = torch.full((len(rows), length), IGNORED)
    weights = torch.ones(len(rows), length)
    for row, one in enumerate(rows):
        inputs[row, : len(one.ids)] = torch.tensor(one.ids)
        targets[row, : len(one.targets)] = torch.tensor(one.targets)
        weights[row, : len(one.weights)] = torch.tensor(one.weights)
    return Batch(inputs, targets, weights, sum(len(one.ids) for one in rows))


def _encode(made: tokenizers.Tokenizer, text: str) -> list[int]:
    return list(made.encode(text, add_special_tokens=False).ids)
