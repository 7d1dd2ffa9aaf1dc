"""An endless stream of documents, and of batches of whole documents, from one seed.

A document is one story, asked for or not, or a shelf of a few stories up to the whole context. A
batch holds documents of about one length, so that hardly anything is padding; each starts at
position 0 and sees itself only.
"""

from __future__ import annotations

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
"""Share of stories that are asked for."""

POOL = 384
"""Documents sorted by length at a time."""

IGNORED = -100


class Document(NamedTuple):
    """Token ids, and how many at the front of it are a question that is not learned."""

    ids: list[int]
    targets: list[int]


class Batch(NamedTuple):
    """(rows, length) token ids and what each place should say next; IGNORED says nothing."""

    inputs: torch.Tensor
    targets: torch.Tensor
    size: int


def document(made: tokenizers.Tokenizer, story: Story, ask: str | None) -> Document:
    """`<|ask|>…<|story|>…<|end|>`; the ask is read, not learned."""
    asked = [] if ask is None else [tokens.ASK_ID, *_encode(made, ask)]
    told = [tokens.STORY_ID, *_encode(made, story.text), tokens.END_ID]
    ids = asked + told
    return Document(ids[:-1], [IGNORED] * len(asked) + told[1:])


def documents(
    made: tokenizers.Tokenizer, seed: int, lessons: tuple[int, int], context: int
) -> Iterator[Document]:
    """Without end; the first are so many tiny and then so many short ones, as `lessons` says."""
    rng = Random(f"storyteller {seed}")  # a text seeds by SHA-512: the same everywhere
    count = 0
    while True:
        size: Size = "tiny" if count < lessons[0] else "short" if count < sum(lessons) else "full"
        count += 1
        made_one = _one(made, rng, size)
        if size == "full" and rng.random() < SHELF:
            while len(made_one.ids) < context:
                more = _one(made, rng, "full")
                ids = [*made_one.ids, tokens.END_ID, *more.ids]
                if len(ids) > context:
                    break
                made_one = Document(ids, [*made_one.targets, IGNORED, *more.targets])
        yield made_one


def _one(made: tokenizers.Tokenizer, rng: Random, size: Size) -> Document:
    story = tell(rng, size)
    return document(made, story, ask_for(story, rng) if rng.random() < ASKED else None)


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
    for row, one in enumerate(rows):
        inputs[row, : len(one.ids)] = torch.tensor(one.ids)
        targets[row, : len(one.targets)] = torch.tensor(one.targets)
    return Batch(inputs, targets, sum(len(one.ids) for one in rows))


def _encode(made: tokenizers.Tokenizer, text: str) -> list[int]:
    return list(made.encode(text, add_special_tokens=False).ids)
