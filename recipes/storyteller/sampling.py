"""Samples stories with transformers from a model folder and counts what the parser says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.storyteller.grammar import Story, tell, with_article
from recipes.storyteller.parser import parse
from recipes.storyteller.tokens import ASK, END, STORY

TEMPERATURE = 0.8
MOST_TOKENS = 500


@dataclass(frozen=True, slots=True)
class Sampled:
    """Stories told to nobody, stories that were asked for, and how often what was asked came."""

    plain: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]
    accepted: int
    asked_accepted: int
    names: int
    kinds: int
    wishes: int
    faults: tuple[str, ...]


def sample(folder: Path, count: int, seed: int) -> Sampled:
    """`count` plain stories and as many asked ones, whose names were never trained on."""
    rng = Random(f"asks {seed}")
    wanted = [tell(rng) for _ in range(count)]
    asks = [_ask(story) for story in wanted]
    prompts = [STORY] * count + [f"{ASK}{ask}{STORY}" for ask in asks]
    told = complete(folder, prompts, seed)
    plain, answers = told[:count], told[count:]
    parsed = [parse(text) for text in answers]
    faults = [fault for text in told for fault in parse(text).faults]
    pairs = list(zip(parsed, wanted, strict=True))
    return Sampled(
        plain=tuple(plain),
        asked=tuple(zip(asks, answers, strict=True)),
        accepted=sum(not parse(text).faults for text in plain),
        asked_accepted=sum(not one.faults for one in parsed),
        names=sum(one.hero == story.cast[0].name for one, story in pairs),
        kinds=sum(one.kind == story.cast[0].kind.noun for one, story in pairs),
        wishes=sum(one.wish == story.wish for one, story in pairs),
        faults=tuple(faults),
    )


def _ask(story: Story) -> str:
    hero = story.cast[0]
    about = f"{with_article(hero.kind.noun)} called {hero.name} who wants {story.wish}"
    return f"Tell me a story about {about}."


def complete(
    folder: Path,
    prompts: Sequence[str],
    seed: int,
    temperature: float = TEMPERATURE,
    most_tokens: int = MOST_TOKENS,
) -> list[str]:
    """What the model says after each prompt; one that does not end gets a note instead of an end.

    Every draw is from the whole distribution: no top-k, no top-p.
    """
    torch.manual_seed(seed)
    read = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = read(list(prompts), return_tensors="pt", padding=True, add_special_tokens=False)
    out = model.generate(
        input_ids=rows["input_ids"],
        attention_mask=rows["attention_mask"],
        max_new_tokens=most_tokens,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
    )
    texts = []
    for row in out[:, rows["input_ids"].shape[1] :]:
        text, end, _ = read.decode(row, skip_special_tokens=False).partition(END)
        texts.append(text if end else f"{text} (it does not end)")
    return texts
