"""The built-in storyteller: small, the same scores in transformers, and tells to the end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

import manyhands
from manyhands.store.builtin import storyteller_folder
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.tokenizer import Tokenizer
from recipes.storyteller import tokens
from recipes.storyteller.parser import parse

MOST_BYTES = 14 * 10**6
ASK = [{"role": "user", "content": "Tell me a story about a badger called Zomilda."}]
TEXT = "Once upon a time there was a small badger called Zomilda, who lived on a farm."


def test_the_folder_is_at_most_14_mb():
    assert sum(file.stat().st_size for file in storyteller_folder().iterdir()) <= MOST_BYTES


def test_nine_blocks_that_three_peers_share_evenly():
    checkpoint = Checkpoint.open(storyteller_folder())
    checkpoint.check()
    assert len(checkpoint.spec.layers) == 1 + 9 + 1
    assert checkpoint.end_tokens == (tokens.END_ID,)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_its_scores_are_those_of_transformers(engine):
    folder = storyteller_folder()
    ids = Tokenizer.open(folder).encode(TEXT)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        wanted = oracle(torch.tensor([ids])).logits[0].numpy()
    dtype = "auto" if engine == "numpy" else "fp32"
    with manyhands.load(folder, peers=3, engine=engine, dtype=dtype) as model:
        scores = model.forward(ids, logits=True)
    np.testing.assert_allclose(scores, wanted, atol=2e-3, rtol=1e-3)


def test_transformers_reads_the_same_tokens():
    folder = storyteller_folder()
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), Tokenizer.open(folder)
    assert theirs(TEXT)["input_ids"] == ours.encode(TEXT)
    rendered = theirs.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True)
    assert rendered == ours.render_text(ASK)


def test_a_chat_gets_a_whole_story_with_the_name_it_asked_for():
    folder = storyteller_folder()
    with manyhands.load(folder, peers=3, engine="numpy") as model:
        text = model.generate(ASK, max_tokens=600, temperature=0)
    parsed = parse(text)
    assert (parsed.hero, parsed.kind) == ("Zomilda", "badger"), text
    assert parsed.faults == (), text
