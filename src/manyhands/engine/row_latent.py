"""Latent attention beside integers: a query's bits depend on the latents it sees and no more.

Always absorbed: the cheaper way goes by how many queries there are, and the two differ in bits. T
tokens of one session, H heads, R rank of the latent, L latents in memory. For both engines; knows
nothing of sessions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyhands.engine.expert_weights import LatentWeights
from manyhands.engine.integers import Integers
from manyhands.engine.row_linear import by_rows

Float32 = NDArray[np.float32]


def attend_latent_by_rows(
    whole: Integers, queries: Float32, known: Float32, weights: LatentWeights[Any, Any]
) -> Float32:
    """Queries [T, H, nope + rope], the last T of the latents [L, R + rope] known -> [T, H, V]."""
    rank, nope = weights.latent.kv_rank, weights.latent.nope
    k_up, v_up = np.asarray(weights.k_up), np.asarray(weights.v_up)
    asked = np.empty((*queries.shape[:2], known.shape[1]), np.float32)
    asked[..., :rank] = by_rows(queries[..., :nope].transpose(1, 0, 2), k_up).transpose(1, 0, 2)
    asked[..., rank:] = queries[..., nope:]
    position = known.shape[0] - queries.shape[0]
    values = known[None, :, :rank]
    mixed = whole.attend(asked, known[None], values, position, weights.absorbed, None)
    return by_rows(mixed.transpose(1, 0, 2), v_up.transpose(0, 2, 1)).transpose(1, 0, 2)
