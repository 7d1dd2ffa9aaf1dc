"""The two ends of a row of layers in numpy: the embedding of texts and images, and the head.

N rows of all parts, D width. Knows nothing of blocks or sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.model_spec import EmbedSpec, HeadSpec
from manyhands.engine.blocks import Part
from manyhands.engine.engine import Output
from manyhands.engine.layer_weights import HeadWeights, ImageWeights, TextWeights
from manyhands.engine.numpy_math import activation, norm

Float32 = NDArray[np.float32]
Linear = Callable[[Float32], Float32]


def embed(
    spec: EmbedSpec,
    weights: TextWeights[Float32] | ImageWeights[Float32, Linear],
    parts: Sequence[Part[Float32]],
) -> Float32:
    """Hidden states [N, D] of token ids, or of the patches that came in as `hidden`."""
    if isinstance(weights, ImageWeights):
        rows = _embed_images(weights, parts)
    else:
        rows = weights.tokens[np.concatenate([part.token_ids for part in parts])]
        if spec.scale != 1:
            rows *= np.float32(spec.scale)
        if weights.token_types is not None:
            rows += weights.token_types[0]
        if weights.positions is not None:
            places = [np.arange(part.position, part.end) for part in parts]
            rows += weights.positions[np.concatenate(places) + spec.position_offset]
    return rows if spec.norm is None else norm(rows, spec.norm, weights.norm)


def _embed_images(
    weights: ImageWeights[Float32, Linear], parts: Sequence[Part[Float32]]
) -> Float32:
    rows = weights.patches(
        np.concatenate([part.hidden for part in parts if part.hidden is not None])
    )
    squares = rows.reshape(len(parts), -1, rows.shape[1])
    front = rows[:0] if weights.class_token is None else weights.class_token
    if weights.positions is not None:
        squares = squares + weights.positions[len(front) :]
        front = front + weights.positions[: len(front)]
    if weights.registers is not None:
        front = np.concatenate([front, weights.registers])
    return np.concatenate([piece for image in squares for piece in (front, image)])


def head(
    spec: HeadSpec,
    weights: HeadWeights[Float32, Linear],
    rows: Float32,
    cuts: Sequence[int],
    parts: Sequence[Part[Float32]],
) -> list[Output]:
    """What the head makes of the rows [N, D] of all parts; part k has rows cuts[k] … cuts[k+1]."""
    wanted = np.array(
        [a + row for a, part in zip(cuts, parts, strict=False) for row in part.rows], np.int64
    )
    ends = np.cumsum([0, *(len(part.rows) for part in parts)])
    if spec.kind != "lm" or weights.head is None:
        rows = _normed(rows, spec, weights)
        hidden, pooled = rows[wanted], _pooled(spec, weights, rows, cuts)
        return [
            Output(hidden[a:b], None, None if pooled is None else pooled[k : k + 1])
            for k, (a, b) in enumerate(pairwise(ends))
        ]
    hidden = _normed(rows[wanted], spec, weights)
    scores = weights.head(hidden)
    if spec.logits_scale != 1:
        scores *= np.float32(spec.logits_scale)
    if spec.softcap is not None:
        scores = np.tanh(scores / np.float32(spec.softcap)) * np.float32(spec.softcap)
    return [Output(hidden[a:b], scores[a:b]) for a, b in pairwise(ends)]


def _normed(rows: Float32, spec: HeadSpec, weights: HeadWeights[Float32, Linear]) -> Float32:
    return rows if spec.norm is None else norm(rows, spec.norm, weights.norm)


def _pooled(
    spec: HeadSpec, weights: HeadWeights[Float32, Linear], rows: Float32, cuts: Sequence[int]
) -> Float32 | None:
    """One vector a part [parts, outputs], None for a head that makes none."""
    firsts: Float32 = rows[np.array(cuts[:-1])]
    match spec.kind:
        case "pool_mean":
            means: Float32 = np.stack([rows[a:b].mean(0) for a, b in pairwise(cuts)])
            return means
        case "pool_first":
            return firsts
        case "classify":
            if weights.dense is not None:
                firsts = activation(weights.dense(firsts), spec.activation)
            scores: Float32 | None = None if weights.head is None else weights.head(firsts)
            return scores
        case _:
            return None
