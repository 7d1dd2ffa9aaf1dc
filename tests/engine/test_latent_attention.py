"""Latent attention: both ways give the same on both engines, and memory holds latents only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny
from engine_cases import LOADS, session
from manyhands.domain.latent import absorbed
from manyhands.domain.model_spec import Attention, Latent
from manyhands.domain.sizes import span_kv_elements
from manyhands.engine import numpy_latent, torch_latent
from manyhands.engine.engine import Chunk
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.torch_math import mask_of
from manyhands.plan.cost import Cost, kv_bytes
from manyhands.store.checkpoint import Checkpoint

A, B = session(1), session(2)
LATENT = Latent(None, 16, 12, 8)
SPEC = Attention(4, 4, 20, 10, 20**-0.5, latent=LATENT)
PLACES = [(1, 1), (1, 30), (7, 7), (7, 30)]
"""(queries, latents in memory with theirs)."""


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(spec, form):
    latent = spec.latent
    keys = numbers(spec.heads, latent.nope, latent.kv_rank, seed=1)
    values = numbers(spec.heads, spec.v_head_dim, latent.kv_rank, seed=4)
    return LatentWeights(spec, latent, absorbed(spec, latent), None, form(keys), form(values))


def written_out(queries, known, up):
    """Keys and values of every head, softmax, one query at a time, in float64."""
    spec, latent, tokens, end = up.spec, up.latent, len(queries), len(known)
    latents = np.asarray(known[:, : latent.kv_rank], np.float64)
    plain = latents @ np.asarray(up.k_up).transpose(0, 2, 1)
    values = latents @ np.asarray(up.v_up).transpose(0, 2, 1)
    out = np.empty((tokens, spec.heads, spec.v_head_dim))
    for token in range(tokens):
        seen = end - tokens + token + 1
        for head in range(spec.heads):
            keys = np.concatenate([plain[head, :seen], known[:seen, latent.kv_rank :]], 1)
            scores = keys @ np.asarray(queries[token, head], np.float64) * spec.scale
            mass = np.exp(scores - scores.max())
            out[token, head] = mass @ values[head, :seen] / mass.sum()
    return out.reshape(tokens, -1)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, v_head_dim=28)], ids=["narrow", "wide"])
@pytest.mark.parametrize(("tokens", "keys"), PLACES)
def test_absorbed_and_expanded_are_what_is_written_out(spec, tokens, keys):
    queries, known = numbers(tokens, 4, 20, seed=2), numbers(keys, 24, seed=3)
    up = weights(spec, lambda tensor: tensor.numpy())
    expected = written_out(queries.numpy(), known.numpy(), up)
    position = keys - tokens
    mask = mask_of(position, tokens, None, torch.float32) if tokens > 1 and position else None
    for way in ("attend_absorbed", "attend_expanded", "attend_latent"):
        ours = getattr(numpy_latent, way)(queries.numpy(), known.numpy(), position, up)
        np.testing.assert_allclose(ours.reshape(tokens, -1), expected, atol=1e-5)
        ours = getattr(torch_latent, way)(queries, known, mask, weights(spec, torch.clone))
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


def test_absorbed_scores_come_a_few_queries_at_a_time(monkeypatch):
    queries, known, up = numbers(7, 4, 20), numbers(30, 24), weights(SPEC, torch.clone)
    mask = mask_of(23, 7, None, torch.float32)
    whole = torch_latent.attend_absorbed(queries, known, mask, up)
    monkeypatch.setattr(torch_latent, "MOST_SCORES", 2 * 4 * 30)
    torch.testing.assert_close(torch_latent.attend_absorbed(queries, known, mask, up), whole)


@pytest.mark.parametrize(("tokens", "keys"), PLACES)
def test_both_ways_are_near_in_bfloat16(tokens, keys):
    queries, known = numbers(tokens, 4, 20, seed=2), numbers(keys, 24, seed=3)
    position = keys - tokens
    mask = mask_of(position, tokens, None, torch.bfloat16) if tokens > 1 and position else None
    up = weights(SPEC, lambda tensor: tensor.bfloat16())
    expected = written_out(queries.numpy(), known.numpy(), weights(SPEC, torch.clone))
    for way in (torch_latent.attend_absorbed, torch_latent.attend_expanded):
        ours = way(queries.bfloat16(), known.bfloat16(), mask, up)
        assert ours.dtype == torch.bfloat16
        np.testing.assert_allclose(
            ours.float().numpy(), expected, atol=0.05 * np.abs(expected).max()
        )


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_memory_takes_what_the_plan_counts_and_may_be_copied(load, tmp_path):
    checkpoint = Checkpoint.open(tiny.make("deepseek_v3", tmp_path))
    spec = checkpoint.spec
    engine = load(spec, spec.span, checkpoint.read, kv_bytes=1 << 24)
    free = engine.room()
    engine.open(A, 64)
    tokens = tuple(range(10, 30))
    whole = engine.step([Chunk(A, 0, tokens, None, (19,))])[0].scores
    used = free - engine.room()
    assert span_kv_elements(spec, spec.span) == 6 * (16 + 8)
    assert used == kv_bytes(spec, spec.span, 64, Cost(bytes_per_kv=4.0)) == 64 * 6 * 24 * 4
    engine.open(B, 64, parent=A, at=15)
    copied = engine.step([Chunk(B, 15, tokens[15:], None, (4,))])[0].scores
    np.testing.assert_allclose(copied, whole, atol=1e-4)
