"""Writes the model card of a trained storyteller: how it was made, and what it really does."""

from __future__ import annotations

from pathlib import Path

from recipes.storyteller.corpus import BOUND, HEEDED
from recipes.storyteller.sampling import Sampled, complete, sample
from recipes.storyteller.tokens import ASK, STORY
from recipes.storyteller.training import Made

COUNT = 50
SEED = 7
OTHER_ASKS = (
    "Tell me a story about a dragon called Anna who wants a drum.",
    "Write a story about Tom.",
    "Hello!",
)


def write_card(folder: Path, made: Made, machine: str) -> Sampled:
    """Sample, count and write `folder`/README.md."""
    sampled = sample(folder, COUNT, SEED)
    others = complete(folder, [f"{ASK}{ask}{STORY}" for ask in OTHER_ASKS], SEED)
    text = (
        _HEAD.format(parameters=f"{made.parameters / 1e6:.1f} million")
        + _made(made, machine)
        + _counted(made, sampled)
        + _LIMITS
    )
    shown = [
        ("(nothing asked)", sampled.plain[0]),
        ("(nothing asked)", sampled.plain[1]),
    ]
    shown += [sampled.asked[0], *zip(OTHER_ASKS, others, strict=True)]
    text += "\n## Samples\n\nThe first of each kind, none chosen; temperature 0.8.\n"
    for ask, story in shown:
        quoted = "\n".join(f"> {line}".rstrip() for line in story.split("\n"))
        text += f"\n**{ask}**\n\n{quoted}\n"
    (folder / "README.md").write_text(text, "utf-8")
    return sampled


_HEAD = """\
---
license: apache-2.0
language: en
pipeline_tag: text-generation
library_name: transformers
---

# The storyteller

A toy of {parameters} parameters that tells short stories in English. It comes with Manyhands so
that a swarm has something to run without a download: it shows that the mechanism works, not what a
language model can do. It knows nothing but its stories, and cannot hold a conversation.

It is Llama-shaped (nine blocks, width 256, eight heads, four of them for keys and values), with a
vocabulary of 2,048 byte-level tokens of its own, in bf16, and loads in transformers as it is.
"""


def _made(made: Made, machine: str) -> str:
    return f"""
## How it was made

All text is from a grammar in `recipes/storyteller/` that was written for this project; nothing was
copied, and no other model had a part in it. The grammar draws a cast with made-up names, a wish and
a plot (made, earned, fetched, swapped, given, found again, shared, learned, travelled to), and
tells it in phrases of its tables. No two of 10,000 such stories are alike, even with the names
taken out.

`python -m recipes.storyteller` makes it again from a fixed seed: the corpus and the tokenizer byte
for byte, the weights up to floating point. Documents are whole stories in batches of about one
length, each seeing itself only. The first lessons are tiny and short stories. Six of ten stories in
the lessons, and 85 of a hundred afterwards, begin with an ask that is read but not learned; to take
up what it says then counts {HEEDED:.0f} times, a name said again and what fits this wish and no
other {BOUND:.0f} times. Three of a hundred documents are several stories in a row, up to 1,024
tokens.

| | |
|---|---|
| machine | {machine} |
| tokens trained on | {made.tokens:,} ({made.steps:,} steps, each text once) |
| time | {made.seconds / 60:.0f} minutes, on a machine that did other work as well |
| optimiser | Muon for the blocks' matrices, AdamW for the rest; bf16 autocast |
"""


def _counted(made: Made, sampled: Sampled) -> str:
    return f"""
## What it does

Measured on stories and names that it was not trained on; temperature 0.8, nothing cut off the
distribution, {COUNT} stories of each kind, sampled by transformers from these weights.

| | |
|---|---|
| held-out loss | {made.held_out:.3f} nats a token |
| stories that the grammar's parser accepts | {sampled.accepted} of {COUNT} |
| asked: "Tell me a story about a … called … who wants …" | {sampled.asked_accepted} of {COUNT} |
| … the hero has the name that was asked for | {sampled.names} of {COUNT} |
| … and is what was asked for | {sampled.kinds} of {COUNT} |
| … and wants what was asked for | {sampled.wishes} of {COUNT} |

The parser (`recipes/storyteller/parser.py` says what it checks) wants a beginning, wish, reason
and end that belong together, nobody named who was not introduced, no misspelt name or unknown
word, and speech that is well formed. It does not check that the turns in the middle follow from
each other.
"""


_LIMITS = """
## Limits

Every hero is she, and everybody she meets is he, whatever the name: where stories were told either
way, a model this small did not learn whose pronoun was whose.
Now and then a name slips.

Stories only, in English, four paragraphs each. It knows some sixty kinds of hero and as many
wishes; asked for another, it takes the nearest it knows or makes something up. It reads the last
message of a chat and forgets the ones before. Names should begin with a capital. It answers no
questions: whatever you say, it tells a story. A text beyond 1,024 tokens is beyond what it was
trained on.
"""
