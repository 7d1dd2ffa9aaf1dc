"""A matrix as two thin ones: the best rank-k product for the rows it is really multiplied with.

Plain singular values weigh all directions of the input alike; whitened by the second moments of
calibration rows, they weigh each as much as it occurs (as in SVD-LLM, Wang et al. 2024). Knows
nothing of models or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyhands.errors import UserError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

RIDGE = 1e-4
"""Added to the moments' diagonal, in units of its mean: directions never seen still count a bit."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """left [out, k] times right [k, in], never multiplied out to be applied."""

    left: Float32
    right: Float32

    @property
    def whole(self) -> Float32:
        """The matrix [out, in] that it stands for."""
        return np.asarray(self.left @ self.right, np.float32)


def columns_for(out: int, into: int, saving: float) -> int:
    """The rank at which two thin matrices of out x into save this share of its numbers."""
    if not 0 <= saving < 1:
        raise UserError(f"a saving of {saving} is none; give a share in [0, 1)")
    return int((1 - saving) * out * into / (out + into + 1))


def moments(rows: Float32) -> Float64:
    """The second moments [in, in] of calibration rows [N, in]: their mean outer product."""
    wide = rows.astype(np.float64)
    return wide.T @ wide / max(1, len(rows))


def decompose(matrix: Float32, rank: int, seen: Float64 | None = None) -> LowRank:
    """The rank-`rank` product nearest to `matrix` for rows of these moments (None: all alike).

    Raises UserError for a rank that is none or over the smaller side.
    """
    out, into = matrix.shape
    if not 1 <= rank <= min(out, into):
        raise UserError(f"a matrix of {out} x {into} has no rank {rank}; 1 to {min(out, into)}")
    if seen is None:
        u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
        return LowRank(_thin(u[:, :rank] * s[:rank]), _thin(v[:rank]))
    root = _root(seen)
    u, s, v = np.linalg.svd(matrix.astype(np.float64) @ root, full_matrices=False)
    right = np.linalg.solve(root.T, v[:rank].T).T
    return LowRank(_thin(u[:, :rank] * s[:rank]), _thin(right))


def output_error(
    matrix: Float32, other: Float32, seen: Float64, against: Float64 | None = None
) -> float:
    """RMS of what rows of these moments give more or less with `other`, against with `matrix`.

    Or against what `matrix` gives rows of other moments, as those around their mean.
    """
    whole = matrix.astype(np.float64)
    wrong = whole - other
    lost = np.einsum("oi,ij,oj->", wrong, seen, wrong, optimize=True)
    by = seen if against is None else against
    kept = np.einsum("oi,ij,oj->", whole, by, whole, optimize=True)
    return float(np.sqrt(max(0.0, lost) / kept)) if kept > 0 else float("inf")


def _root(seen: Float64) -> Float64:
    """A matrix R with R Rᵀ = moments, made regular."""
    mean = float(np.trace(seen)) / len(seen) or 1.0
    return np.asarray(np.linalg.cholesky(seen + RIDGE * mean * np.eye(len(seen))), np.float64)


def _thin(array: Float64) -> Float32:
    return np.ascontiguousarray(array, np.float32)
