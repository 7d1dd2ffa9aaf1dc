"""Absorbed or expanded: the work of each, and which is less."""

from manyhands.domain.latent import (
    absorbed,
    absorbed_flops,
    expanded_flops,
    is_absorbed_better,
)
from manyhands.domain.model_spec import Attention, Latent

LATENT = Latent(q_rank=1536, kv_rank=512, nope=128, rope=64)
SPEC = Attention(128, 128, 192, 128, 0.1, latent=LATENT)
"""DeepSeek-V3."""


def test_the_absorbed_way_has_one_key_head_as_wide_as_what_is_remembered():
    words = absorbed(SPEC, LATENT)
    assert (words.heads, words.kv_heads, words.head_dim) == (128, 1, 576)
    assert (words.scale, words.latent) == (SPEC.scale, None)


def test_work_is_what_the_two_ways_multiply():
    assert absorbed_flops(SPEC, LATENT, 1, 1) == 2 * 128 * (512 * 256 + 512 + 64 + 512)
    assert expanded_flops(SPEC, LATENT, 1, 1) == 2 * 128 * (512 * 256 + 192 + 128)


def test_a_token_is_absorbed_and_a_prompt_expanded():
    assert is_absorbed_better(SPEC, LATENT, 1, 2)
    assert is_absorbed_better(SPEC, LATENT, 1, 100_000)
    assert is_absorbed_better(SPEC, LATENT, 8, 4_000)
    assert not is_absorbed_better(SPEC, LATENT, 512, 512)
    assert not is_absorbed_better(SPEC, LATENT, 512, 4_000)
