"""A block's attention in torch: queries, keys and values made, remembered, and attended to.

Chooses, for each part of a run, who attends. Knows nothing of sessions: `blocks` keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from manyhands.domain.model_spec import BlockSpec, Rope
from manyhands.engine import torch_integers
from manyhands.engine.blocks import Part
from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.layer_weights import BlockWeights
from manyhands.engine.torch_latent import attend_latent, split_latent
from manyhands.engine.torch_linear import Linear
from manyhands.engine.torch_math import attend, attend_around, is_plain, rotate
from manyhands.engine.torch_next import Together, attend_next
from manyhands.engine.torch_rows import norm
from manyhands.engine.torch_step import Step


@dataclass(frozen=True, slots=True)
class Block:
    """A block that is held. `rope` is its spec's, one object for all blocks with an equal one.

    `together` attends where the kernel can.
    """

    layer: int
    spec: BlockSpec
    rope: Rope | None
    weights: BlockWeights[Tensor, Linear]
    together: Together | None


def attention(rows: Tensor, place: int, block: Block, step: Step) -> Tensor:
    """Rows [N, D] of all parts, `place` of the blocks that are run -> [N, D]."""
    spec = block.spec.attention
    if block.weights.latent is not None:
        return _latent_attention(rows, place, block, block.weights.latent, step)
    fused = block.weights.qkv(rows)
    both = spec.heads + spec.kv_heads
    cut = both * spec.head_dim
    turned = fused[:, :cut].view(-1, both, spec.head_dim)
    values = fused[:, cut:].view(-1, spec.kv_heads, spec.v_head_dim)
    if spec.qk_norm != "none":
        _norm_queries_and_keys(fused, turned, block, step)
    if block.together is not None:
        return block.weights.o(block.together(fused, place, step))
    if block.rope is not None:
        rotate(turned, block.rope, *step.turn(block.rope))
    queries, keys = turned[:, : spec.heads], turned[:, spec.heads :]
    if step.integers is not None and spec.causal:
        keys, values = keys.bfloat16(), values.bfloat16()  # as they are kept
    ones = step.ones if step.integers is None and is_plain(spec, block.weights.sinks) else 0
    mixed = []
    if ones:
        parts = step.parts[:ones]
        mixed.append(attend_next(parts, place, spec, queries[:ones], keys[:ones], values[:ones]))
    for index, part in enumerate(step.parts[ones:], ones):
        first, last = step.cuts[index], step.cuts[index + 1]
        known = _remember(part, place, block, keys[first:last], values[first:last])
        if step.integers is not None:
            mixed.append(
                torch_integers.attend_by_rows(
                    step.integers, queries[first:last], known, spec, block.weights.sinks
                )
            )
            continue
        if not spec.causal:
            mixed.append(attend_around(queries[first:last], *known, spec, block.weights.sinks))
            continue
        mask = step.mask(index, spec.window)
        mixed.append(attend(queries[first:last], *known, mask, spec, block.weights.sinks))
    return block.weights.o(mixed[0] if len(mixed) == 1 else torch.cat(mixed))


def _latent_attention(
    rows: Tensor, place: int, block: Block, latent: LatentWeights[Tensor, Linear], step: Step
) -> Tensor:
    queries, known = split_latent(rows, block.spec, block.weights, latent)
    if block.rope is not None:
        turn = step.turn(block.rope)
        rotate(queries[..., latent.latent.nope :], block.rope, *turn)
        rotate(known[:, None, latent.latent.kv_rank :], block.rope, *turn)
    mixed = []
    for index, part in enumerate(step.parts):
        first, last = step.cuts[index], step.cuts[index + 1]
        new = known[first:last, None]
        if step.integers is not None:
            new = new.bfloat16()  # as it is kept
        memory, _ = _remember(part, place, block, new, new[..., :0])
        seen = queries[first:last], memory[0]
        if step.integers is not None:
            mixed.append(torch_integers.attend_latent(step.integers, *seen, latent))
        else:
            mixed.append(attend_latent(*seen, step.mask(index, None), latent))
    return block.weights.o(mixed[0] if len(mixed) == 1 else torch.cat(mixed))


def _norm_queries_and_keys(fused: Tensor, turned: Tensor, block: Block, step: Step) -> None:
    """Norm in place, each head by itself or all heads of a row as one."""
    spec, weights = block.spec.attention, block.weights
    form = spec.qk or block.spec.norm
    if spec.qk_norm == "head":
        queries, keys = turned[:, : spec.heads], turned[:, spec.heads :]
    else:
        cut = spec.heads * spec.head_dim
        queries, keys = fused[:, :cut], fused[:, cut : cut + spec.kv_heads * spec.head_dim]
    queries.copy_(norm(step.crew, queries, form, weights.q_norm))
    keys.copy_(norm(step.crew, keys, form, weights.k_norm))


def _remember(
    part: Part[Tensor], place: int, block: Block, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Write [T, K, W] into the part's memory; the keys and values [K, L, W] its queries may see."""
    if part.blocks is None:
        return keys.transpose(0, 1), values.transpose(0, 1)
    all_keys, all_values = part.blocks[place]
    all_keys[:, part.position : part.end] = keys.transpose(0, 1)
    all_values[:, part.position : part.end] = values.transpose(0, 1)
    window, start = block.spec.attention.window, 0
    if window is not None and part.end - part.position == 1:
        start = max(0, part.end - window)
    return all_keys[:, start : part.end], all_values[:, start : part.end]
