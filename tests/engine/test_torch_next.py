"""Attention of many sessions in one call is torch's own, whatever runs beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from engine_cases import HAS_NUMBA
from manyhands.domain.model_spec import Attention
from manyhands.engine.blocks import Part
from manyhands.engine.compiled import new_crew
from manyhands.engine.torch_math import attend, mask_of
from manyhands.engine.torch_next import attend_together, is_for_kernel
from ordinary import ordinary

pytestmark = pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")

GROUPED = Attention(6, 2, 32, 64, 0.2)
FORMS = {
    "groups of 3": GROUPED,
    "groups of 1": Attention(2, 2, 64, 32, 0.125),
    "groups of 8": Attention(8, 1, 96, 32, 0.1),
    "window": replace(GROUPED, window=37),
    "sinks": replace(GROUPED, sinks=True),
}
SESSIONS = ((0, 1), (300, 1), (0, 20), (290, 9), (511, 1), (17, 3))
"""Position and tokens of each."""


def halved(*shape, seed):
    return torch.from_numpy(ordinary(*shape, seed=seed)).bfloat16()


def case(spec, sessions):
    """Parts with memories that have room for more, their rows, and sinks."""
    parts, cuts = [], [0]
    for number, (position, tokens) in enumerate(sessions):
        room = position + tokens + 5
        keys = halved(spec.kv_heads, room, spec.head_dim, seed=3 * number)
        values = halved(spec.kv_heads, room, spec.v_head_dim, seed=3 * number + 1)
        keys[:, position:], values[:, position:] = math.nan, math.nan  # not yet said
        parts.append(Part(position, (1,) * tokens, None, (), False, [(keys, values)]))
        cuts.append(cuts[-1] + tokens)
    queries = 2 * halved(cuts[-1], spec.heads + spec.kv_heads, spec.head_dim, seed=98)
    values = halved(cuts[-1], spec.kv_heads, spec.v_head_dim, seed=99)
    sinks = halved(spec.heads, seed=97) if spec.sinks else None
    return parts, cuts, queries[:, : spec.heads], queries[:, spec.heads :], values, sinks


@pytest.mark.parametrize("form", FORMS)
def test_it_is_what_torch_computes_in_float32(form):
    spec = FORMS[form]
    parts, cuts, queries, keys, values, sinks = case(spec, SESSIONS)
    got = attend_together(new_crew(2), parts, cuts, 0, spec, queries, keys, values, sinks)
    for part, first, last in zip(parts, cuts, cuts[1:], strict=False):
        one, window = last - first == 1, spec.window or part.end
        start = max(0, part.end - window) if one else 0  # torch's takes no mask for one query
        known = [array[:, start : part.end].float() for array in part.blocks[0]]
        mask = mask_of(part.position, last - first, spec.window, torch.float32)
        held = None if sinks is None else sinks.float()
        expected = attend(queries[first:last].float(), *known, mask, spec, held)
        torch.testing.assert_close(got[first:last].float(), expected, atol=1e-2, rtol=8e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_sessions_bits_are_the_same_alone_and_among_others(form):
    spec = FORMS[form]
    parts, cuts, queries, keys, values, sinks = case(spec, SESSIONS)
    crew = new_crew(2)
    together = attend_together(crew, parts, cuts, 0, spec, queries, keys, values, sinks)
    for part, first, last in zip(parts, cuts, cuts[1:], strict=False):
        rows = slice(first, last)
        alone = [0, last - first], 0, spec, queries[rows], keys[rows], values[rows], sinks
        assert torch.equal(attend_together(crew, [part], *alone), together[rows])


def test_without_a_memory_a_part_sees_itself_alone():
    spec, count = GROUPED, 40
    _, _, queries, keys, values, _ = case(spec, [(0, count)])
    part = Part(0, (1,) * count, None, (), False, None)
    got = attend_together(new_crew(1), [part], [0, count], 0, spec, queries, keys, values, None)
    known = keys.transpose(0, 1).float(), values.transpose(0, 1).float()
    expected = attend(queries.float(), *known, None, spec, None)
    torch.testing.assert_close(got.float(), expected, atol=1e-2, rtol=8e-3)


@pytest.mark.parametrize(
    "change",
    [{"head_dim": 80}, {"v_head_dim": 48}, {"softcap": 5.0}, {"alibi": (1.0,)}, {"causal": False}],
)
def test_what_the_kernel_has_no_form_for_goes_another_way(change):
    assert is_for_kernel(GROUPED, torch.bfloat16)
    assert not is_for_kernel(GROUPED, torch.float32)
    assert not is_for_kernel(replace(GROUPED, **change), torch.bfloat16)
