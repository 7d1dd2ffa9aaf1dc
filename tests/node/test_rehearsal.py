"""What was loaded is tried before anybody uses it, tells its seconds, and is left as it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hash_swarm import MODEL, SPEC
from manyhands.domain.span import Span
from manyhands.node.rehearsal import STEPS, Rehearsal
from manyhands.sim.hash_engine import HashEngine
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual


def rehearsed(model, span, engine):
    told = []

    async def main():
        clock = asyncio.get_running_loop().time
        await Rehearsal(VirtualCompute(), clock, lambda *found: told.append(found))(
            model, span, engine
        )

    run_virtual(main)
    return told


@pytest.mark.parametrize("span", [Span(0, 8), Span(3, 6)])
def test_its_steps_are_timed_and_its_memory_is_given_back(span):
    engine = MODEL.load(span)
    ((model, found, seconds),) = rehearsed(MODEL, span, engine)
    assert (model, found) == (MODEL.id, span)
    assert len(seconds) == STEPS
    assert all(one > 0 for one in seconds)
    ((_, _, again),) = rehearsed(MODEL, span, engine)  # the session's name is free
    assert again == pytest.approx(seconds)


def test_where_there_is_no_memory_nothing_is_told_and_nothing_fails():
    assert rehearsed(MODEL, Span(0, 8), HashEngine(SPEC, Span(0, 8), kv_bytes=1)) == []


def test_a_model_whose_step_is_no_single_token_is_left_alone():
    source = replace(MODEL, spec=replace(MODEL.spec, source=3))
    assert rehearsed(source, Span(0, 8), None) == []
