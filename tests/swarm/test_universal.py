"""A model without family file, answered by three nodes; one is killed in mid-answer."""

import pytest

import manyhands as mh
from universal_cases import make

pytestmark = pytest.mark.timeout(300)
TOKENS = 24


@pytest.mark.parametrize("kind", ["phimoe", "qwen3_next"])
def test_an_answer_goes_on_with_the_same_words_when_a_peer_is_lost(tmp_path, kind):
    folder = make(kind, tmp_path / "m")
    with mh.load(folder, peers=1, threads=1) as model:
        alone = model.generate_ids("Many hands", TOKENS, temperature=0.9, seed=5)
    with mh.load(folder, peers=3, threads=1) as model:
        assert len(model.peers) == 3
        undisturbed = model.generate_ids("Many hands", TOKENS, temperature=0.9, seed=5)
        said = []
        for token in model.stream_ids("Many hands", TOKENS, temperature=0.9, seed=5):
            said.append(token)
            if len(said) == TOKENS // 2:
                model.kill(1)
        assert len(model.peers) == 2
        scores = model.forward("Many hands", logits=True)
    assert said == undisturbed == alone
    assert scores.shape[1] == 320
