"""Vectors of texts and images over three real peers, one of which may be killed on the way."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

import tiny
from manyhands.domain.settings import Settings
from manyhands.engine import choice
from manyhands.errors import ContextOverflow, NotServed, UserError
from manyhands.node.local import LocalSwarm
from manyhands.node.opened import open_model
from manyhands.node.speaker import Speaker

TEXTS = [[3 + (7 * i * i + n) % 150 for i in range(1 + 5 * n % 60)] for n in range(24)]


@contextlib.asynccontextmanager
async def speaking(folder):
    settings = Settings()
    opened = open_model(folder, settings, engine="numpy")
    swarm = LocalSwarm(opened.model, 3, choice.this_device(), settings, opened.on_start)
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(swarm.serve(started))
        await started.wait()
        yield Speaker(opened, lambda: swarm.owner.owner), swarm
        swarm.stop()


def alone(opened, inputs):
    """What one engine makes of each by itself, of length 1."""
    engine = opened.model.load(opened.model.spec.span)
    made = np.concatenate([engine.forward(*one).pooled for one in inputs])
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny.make("bert", tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("killed", [None, 1, 2])
async def test_vectors_of_texts_are_those_of_one_engine_whoever_is_killed(bert, killed):
    async with speaking(bert) as (speaker, swarm):

        async def kill():
            while True:
                if any(s.ring.sequence > 1 for s in swarm.owner.owner._sessions.values()):
                    return swarm.kill(killed)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            if killed is not None:
                tasks.create_task(kill())
            made = await speaker.embed(TEXTS)
        expected = alone(open_model(bert, Settings(), engine="numpy"), [(t, None) for t in TEXTS])
        np.testing.assert_allclose(made.vectors, expected, rtol=0, atol=2e-6)
        assert made.tokens == sum(map(len, TEXTS))
        assert bool(made.recovered_s) == (killed is not None)
        assert len(made.kernels) == 1
        assert not swarm.owner.owner._sessions


async def test_text_is_cut_by_the_models_own_tokenizer(bert):
    async with speaking(bert) as (speaker, _):
        said = await speaker.embed(["Many hands", "light work"])
        ids = [speaker.tokenizer.encode(text) for text in ("Many hands", "light work")]
        np.testing.assert_array_equal(said.vectors, (await speaker.embed(ids)).vectors)
        assert (await speaker.embed([])).vectors.shape == (0, 64)
        with pytest.raises(UserError, match="empty"):
            await speaker.embed([[]])
        with pytest.raises(UserError, match="a list of texts"):
            await speaker.embed("Many hands")
        with pytest.raises(ContextOverflow):
            await speaker.embed([[5] * 513])
        with pytest.raises(NotServed, match="goes on with no text"):
            speaker.answer("Many hands", 4)
        hidden = await speaker.forward(ids[0], logits=False)
        assert hidden.shape == (len(ids[0]), 64)


async def test_an_image_travels_as_its_patches(tmp_path):
    folder = tiny.make("vit", tmp_path / "vit")
    pixels = np.arange(3 * 32 * 32, dtype=np.float32).reshape(3, 32, 32) % 37 / 10 - 1.5
    async with speaking(folder) as (speaker, _):
        made = await speaker.embed([pixels, pixels[:, ::-1]])
        import torch

        with torch.inference_mode():
            theirs = tiny.oracle(folder)(torch.from_numpy(np.stack([pixels, pixels[:, ::-1]])))
        first = theirs.last_hidden_state[:, 0].numpy()
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        np.testing.assert_allclose(made.vectors, first, rtol=0, atol=2e-6)
        with pytest.raises(UserError, match="interpolates no positions"):
            await speaker.embed([pixels[:, :24]])
        with pytest.raises(UserError, match="takes images"):
            await speaker.embed([[0, 0]])


@pytest.mark.parametrize(
    ("case", "said"),
    [("llama", "goes on with texts"), ("bert-classes", "classes"), ("siglip", "each token")],
)
async def test_a_model_that_makes_no_vectors_says_so(tmp_path, case, said):
    folder = tiny.make(case, tmp_path / case)
    async with speaking(folder) as (speaker, _):
        with pytest.raises(NotServed, match=said):
            await speaker.embed([[5, 6]])
