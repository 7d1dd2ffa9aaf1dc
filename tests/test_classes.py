"""`model.classify`: the library's scores of texts and images over peers; who has none says so."""

import numpy as np
import pytest
import torch

import manyhands as mh
import tiny
from manyhands.errors import NotServed, UserError
from ordinary import ordinary, token_ids


@pytest.mark.parametrize("engine", ["torch", "numpy"])
def test_texts_and_images_are_scored_as_by_the_library(tmp_path, engine):
    texts = [list(token_ids(7)), list(token_ids(12, seed=2))]
    folder = tiny.make("bert-classes", tmp_path / "bert")
    library = tiny.oracle(folder)
    with torch.inference_mode():
        expected = [library(torch.tensor([text])).logits[0].numpy() for text in texts]
    with mh.load(folder, peers=3, engine=engine, dtype="fp32") as model:
        np.testing.assert_allclose(model.classify(texts), expected, atol=1e-5)

    folder = tiny.make("vit-classes", tmp_path / "vit")
    library = tiny.oracle(folder)
    size = library.config.image_size
    image = ordinary(library.config.num_channels, size, size)
    with torch.inference_mode():
        expected = library(torch.from_numpy(image)[None]).logits.numpy()
    with mh.load(folder, peers=2, engine=engine, dtype="fp32") as model:
        np.testing.assert_allclose(model.classify([image]), expected, atol=1e-5)


def test_a_model_without_classes_says_so(tmp_path):
    with mh.load(tiny.make("bert", tmp_path / "m"), peers=1, engine="numpy") as model:
        with pytest.raises(NotServed, match="has no classes to tell apart"):
            model.classify(["a text"])
        with pytest.raises(UserError, match="give a list"):
            model.embed("a text")
