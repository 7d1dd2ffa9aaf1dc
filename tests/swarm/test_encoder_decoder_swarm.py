"""Encoder-decoders, answered by three nodes: one is killed in mid-answer, the words stay."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import manyhands as mh
from universal_cases import make, oracle

pytestmark = pytest.mark.timeout(300)
TOKENS = 24
SOURCE = tuple((7 * place + 3) % 190 + 8 for place in range(150))
"""Longer than a chunk of a prompt may be."""


PENALTY = 3.0
"""Without it random weights say one token for ever; it counts what is said, not what is read."""


def generated(folder, source):
    """What transformers' own generation says, without the decoder's start."""
    said = oracle(folder).generate(
        torch.tensor([source]),
        max_new_tokens=TOKENS,
        do_sample=False,
        num_beams=1,
        repetition_penalty=PENALTY,
    )
    assert len(set(said[0].tolist())) > TOKENS // 2
    return said[0, 1:].tolist()


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_answer_goes_on_with_the_same_words_when_a_peer_is_lost(tmp_path, kind, lost):
    folder = make(kind, tmp_path / "m")
    truth = generated(folder, SOURCE)
    settings = mh.Settings(chunk_tokens=64)
    with mh.load(folder, peers=3, threads=1, settings=settings) as model:
        undisturbed = model.generate_ids(SOURCE, TOKENS, repetition_penalty=PENALTY)
        said = []
        for token in model.stream_ids(SOURCE, TOKENS, repetition_penalty=PENALTY):
            said.append(token)
            if len(said) == TOKENS // 2:
                model.kill(lost)
        assert len(model.peers) == 2
    assert said == undisturbed == truth


def test_texts_of_several_at_once_are_those_of_each_alone(tmp_path):
    folder = make("t5", tmp_path / "m")
    sources = [SOURCE[:length] for length in (5, 40, 130)]
    with mh.load(folder, peers=3, threads=1) as model:

        def answer(source):
            return model.generate_ids(source, TOKENS, repetition_penalty=PENALTY)

        with ThreadPoolExecutor(3) as readers:
            said = list(readers.map(answer, sources))
        scores = model.forward(SOURCE, logits=True)
    assert said == [generated(folder, source) for source in sources]
    assert len({tuple(one) for one in said}) == 3
    assert scores.shape == (1, 320)
    assert scores.argmax() == generated(folder, SOURCE)[0]
