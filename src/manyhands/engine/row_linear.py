"""Linear maps in float32 whose bits, for each row, depend on that row alone: beside integers.

BLAS adds up in another order for many rows than for one; here it is given one row at a time, from
within numpy. Knows nothing of torch, or of where matrices come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class RowLinear:
    """A matrix [out, in] and perhaps a bias, each row multiplied by itself."""

    def __init__(self, matrix: Float32, bias: Float32 | None) -> None:
        self._matrix, self._bias = matrix, bias
        self.bytes_held = matrix.nbytes + (0 if bias is None else bias.nbytes)

    def __call__(self, rows: Float32) -> Float32:
        """[N, in] -> [N, out]."""
        out = by_rows(rows, self._matrix.T)
        if self._bias is not None:
            out += self._bias
        return out


def by_rows(rows: Float32, matrix: Float32) -> Float32:
    """Rows [..., N, in] times a matrix [..., in, out], or as many of them: [..., N, out]."""
    alone = np.ascontiguousarray(rows)[..., None, :]
    out: Float32 = np.matmul(alone, matrix[..., None, :, :])[..., 0, :]
    return out
