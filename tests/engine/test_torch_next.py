"""Attention of many sessions in one call is torch's own, whatever runs beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine_cases import HAS_NUMBA
from manyhands.domain.model_spec import Attention, Rope
from manyhands.engine.blocks import Part
from manyhands.engine.compiled import new_crew
from manyhands.engine.torch_math import attend, mask_of, rotate, rotation
from manyhands.engine.torch_next import Together, is_for_kernel
from manyhands.engine.torch_step import Step
from ordinary import ordinary

pytestmark = pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")

GROUPED = Attention(6, 2, 32, 64, 0.2)
FORMS = {
    "groups of 3": GROUPED,
    "groups of 1": Attention(2, 2, 64, 32, 0.125),
    "groups of 8": Attention(8, 1, 96, 32, 0.1),
    "half a vector": Attention(4, 2, 80, 48, 0.1),
    "narrow": Attention(4, 2, 16, 16, 0.25),
    "window": replace(GROUPED, window=37),
    "sinks": replace(GROUPED, sinks=True),
}
SESSIONS = ((0, 1), (300, 1), (0, 20), (290, 9), (511, 1), (17, 3))
"""Position and tokens of each."""

ROPE = Rope(tuple(10000.0 ** (-2 * i / 32) for i in range(16)))
ROPES = {
    "none": None,
    "whole": ROPE,
    "a part, interleaved": replace(ROPE, inv_freq=ROPE.inv_freq[:5], interleaved=True),
    "scaled": replace(ROPE, inv_freq=ROPE.inv_freq[:11], attention_factor=1.5),
}


def halved(*shape, seed):
    return torch.from_numpy(ordinary(*shape, seed=seed)).bfloat16()


def lies(array):
    """See kv_cache.Memory."""
    return array.data_ptr(), 2 * array.stride(0), 2 * array.stride(1)


def case(spec, sessions):
    """Parts with memories that have room for more, their rows, and sinks."""
    parts, rows = [], 0
    for number, (position, tokens) in enumerate(sessions):
        room = position + tokens + 5
        keys = halved(spec.kv_heads, room, spec.head_dim, seed=3 * number)
        values = halved(spec.kv_heads, room, spec.v_head_dim, seed=3 * number + 1)
        keys[:, position:], values[:, position:] = math.nan, math.nan  # not yet said
        places = np.array([[*lies(keys), *lies(values)]])
        ids = (1,) * tokens
        parts.append(Part(position, ids, None, (), False, [(keys, values)], places))
        rows += tokens
    outs = (spec.heads + spec.kv_heads) * spec.head_dim + spec.kv_heads * spec.v_head_dim
    fused = 2 * halved(rows, outs, seed=98)
    return parts, fused, halved(spec.heads, seed=97) if spec.sinks else None


def together(crew, spec, parts, fused, sinks=None, rope=None):
    return Together(crew, spec, rope, sinks)(fused, 0, Step(parts, fused.dtype, None, crew))


def cut(spec, fused):
    """Queries [N, H, W], keys [N, K, W] and values [N, K, V] in float32."""
    both, count = spec.heads + spec.kv_heads, len(fused)
    end = both * spec.head_dim
    turned = fused[:, :end].float().view(count, both, spec.head_dim).clone()
    values = fused[:, end:].float().view(count, spec.kv_heads, spec.v_head_dim)
    return turned[:, : spec.heads], turned[:, spec.heads :], values


def rows_of(parts):
    """Each part and where its rows are."""
    first = 0
    for part in parts:
        yield part, slice(first, first := first + len(part.token_ids))


@pytest.mark.parametrize("form", FORMS)
def test_it_is_what_torch_computes_in_float32(form):
    spec = FORMS[form]
    parts, fused, sinks = case(spec, SESSIONS)
    got = together(new_crew(2), spec, parts, fused, sinks)
    queries, _, _ = cut(spec, fused)
    for part, rows in rows_of(parts):
        one, window = len(part.token_ids) == 1, spec.window or part.end
        start = max(0, part.end - window) if one else 0  # torch's takes no mask for one query
        known = [array[:, start : part.end].float() for array in part.blocks[0]]
        mask = mask_of(part.position, len(part.token_ids), spec.window, torch.float32)
        held = None if sinks is None else sinks.float()
        expected = attend(queries[rows], *known, mask, spec, held)
        torch.testing.assert_close(got[rows].float(), expected, atol=1e-2, rtol=8e-3)


@pytest.mark.parametrize("name", ROPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_queries_and_keys_are_turned_and_keys_and_values_kept(name, dtype):
    spec, rope = GROUPED, ROPES[name]
    parts, fused, _ = case(spec, SESSIONS)
    fused = fused.to(dtype)
    got = together(new_crew(2), spec, parts, fused, rope=rope)
    queries, keys, values = cut(spec, fused)
    for part, rows in rows_of(parts):
        for some in () if rope is None else (queries[rows], keys[rows]):
            places = torch.arange(part.position, part.end, dtype=torch.float32)
            rotate(some, rope, *rotation(rope, False, places, torch.float32))
        kept_keys, kept_values = (array[:, part.position :] for array in part.blocks[0])
        new = kept_keys[:, : len(part.token_ids)].transpose(0, 1)
        torch.testing.assert_close(new.float(), keys[rows], atol=1e-6, rtol=2**-8)
        assert torch.equal(
            kept_values[:, : len(part.token_ids)].transpose(0, 1), values[rows].bfloat16()
        )
        assert kept_keys[:, len(part.token_ids) :].isnan().all()
        known = [array[:, : part.end].float() for array in part.blocks[0]]
        mask = mask_of(part.position, len(part.token_ids), None, torch.float32)
        expected = attend(queries[rows], *known, mask, spec, None)
        torch.testing.assert_close(got[rows].float(), expected, atol=1e-2, rtol=8e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_sessions_bits_are_the_same_alone_and_among_others(form):
    spec, crew = FORMS[form], new_crew(2)
    rope = replace(ROPE, inv_freq=ROPE.inv_freq[: spec.head_dim // 2])
    parts, fused, sinks = case(spec, SESSIONS)
    among = together(crew, spec, parts, fused, sinks, rope)
    for part, rows in rows_of(parts):
        assert torch.equal(together(crew, spec, [part], fused[rows], sinks, rope), among[rows])


def test_without_a_memory_a_part_sees_itself_alone():
    spec, count = GROUPED, 40
    _, fused, _ = case(spec, [(0, count)])
    part = Part(0, (1,) * count, None, (), False, None)
    got = together(new_crew(1), spec, [part], fused)
    queries, keys, values = cut(spec, fused)
    expected = attend(queries, keys.transpose(0, 1), values.transpose(0, 1), None, spec, None)
    torch.testing.assert_close(got.float(), expected, atol=1e-2, rtol=8e-3)


def test_a_number_that_is_none_is_kept_and_seen():
    spec = GROUPED
    parts, fused, _ = case(spec, [(40, 3)])
    queries_end = spec.heads * spec.head_dim
    fused[1, queries_end + 3] = math.nan  # the second token's key, of the first key's heads
    got = together(new_crew(1), spec, parts, fused).view(3, spec.heads, -1)
    assert not got[0].isnan().any()
    assert got[1:, :3].isnan().all()
    assert not got[:, 3:].isnan().any()


@pytest.mark.parametrize(
    "change",
    [{"head_dim": 72}, {"v_head_dim": 40}, {"softcap": 5.0}, {"alibi": (1.0,)}, {"causal": False}],
)
def test_what_the_kernel_has_no_form_for_goes_another_way(change):
    assert is_for_kernel(GROUPED)
    assert not is_for_kernel(replace(GROUPED, **change))
