"""A model that keeps no memory: whole sequences, whoever is killed on the way, nothing replayed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from manyhands.codec import codec
from manyhands.domain.messages import Replay
from manyhands.domain.settings import Settings
from manyhands.domain.span import even_cuts
from manyhands.domain.work import Sampling, Step, Want
from manyhands.errors import NotServed
from manyhands.net.memory import Path
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.hash_engine import HashEngine, hash_spec
from manyhands.sim.virtual_loop import run_virtual
from manyhands.wire.frame import FrameReader
from manyhands.wire.schema import decode
from node_cases import model

SPEC = hash_spec(6, causal=False)
SPANS = even_cuts(len(SPEC.layers), 3)
MEMBERS = (Member(can_load=False), *(Member((span,), False) for span in SPANS), Member())
HIDDEN = Want(token=False, hidden=True)
TEXTS = [[1 + (7 * n + i) % 60 for i in range(5 + 60 * n % 301)] for n in range(6)]


def encoder():
    return replace(model(), spec=SPEC, load=lambda span: HashEngine(SPEC, span))


def truth(text):
    return HashEngine(SPEC, SPEC.span).forward(text, None).hidden[-1]


@pytest.mark.parametrize("killed", [1, 2, 3])
@pytest.mark.parametrize("after_s", [0.05, 0.8])
def test_a_peer_killed_on_the_way_changes_nothing(killed, after_s):
    seen = []

    async def main():
        settings = Settings(chunk_tokens=32)
        path = Path(latency_s=0.001)
        async with Fleet(3, encoder(), MEMBERS, settings=settings, path=path) as fleet:
            fleet.taps.append(
                lambda source, target, data: seen.extend(
                    decode(f) for f in FrameReader().feed(data)
                )
            )
            owner = fleet.nodes[0].owner
            session = await owner.open(fleet.model, Sampling(), 0)

            async def kill():
                await asyncio.sleep(after_s)
                fleet.kill(killed)

            fleet.spawn(kill())
            for text in TEXTS:
                (result,) = await session.run(text, HIDDEN)
                np.testing.assert_array_equal(codec.decode(result.tensor)[0], truth(text))
            assert len(session.recovery.recovered_s) == 1
            assert all(node.worker.memories.journal_bytes() == 0 for node in fleet.nodes)
            owner.close(session)

    run_virtual(main)
    steps = [message for message in seen if isinstance(message, Step)]
    assert {step.position for step in steps} == {0}
    assert {len(step.token_ids) for step in steps} == {len(text) for text in TEXTS}
    assert not any(isinstance(message, Replay) for message in seen)


def test_what_the_head_does_not_make_is_refused_by_name():
    async def main():
        async with Fleet(3, encoder(), MEMBERS) as fleet:
            session = await fleet.nodes[0].owner.open(fleet.model, Sampling(), 0)
            with pytest.raises(NotServed, match="makes no pooled vector"):
                await session.run([1, 2, 3], Want(token=False, pooled=True))

    run_virtual(main)
