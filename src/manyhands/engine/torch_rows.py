"""What lies between a block's products in torch, by compiled kernels where they serve.

Knows nothing of blocks or sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from manyhands.domain.model_spec import Mlp, Norm
from manyhands.engine import torch_math
from manyhands.engine.layer_weights import NormWeights

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

LANES = 16
"""The kernels take rows whose widths are multiples of this."""

_DTYPES = torch.float32, torch.bfloat16


def norm(crew: Crew | None, rows: Tensor, spec: Norm, weights: NormWeights[Tensor]) -> Tensor:
    """See torch_math.norm. By the kernel, where there is one, for every number of rows alike."""
    weight, dtype, width = weights.weight, rows.dtype, rows.shape[-1]
    if (
        crew is None
        or spec.kind != "rms"
        or weights.bias is not None
        or width % LANES
        or dtype not in _DTYPES
        or (weight is not None and weight.dtype != dtype)
    ):
        return torch_math.norm(rows, spec, weights)
    given, out = rows.contiguous(), torch.empty(rows.shape, dtype=dtype)
    crew.rows.norm_rows(
        dtype == torch.bfloat16,
        given.data_ptr(),
        0 if weight is None else weight.data_ptr(),
        out.data_ptr(),
        rows.numel() // width,
        width,
        spec.eps,
        1.0 if spec.plus_one else 0.0,
    )
    return out


def activate(crew: Crew | None, rows: Tensor, spec: Mlp, apply: torch_math.Apply) -> Tensor:
    """See torch_math.activate. By the kernel, where there is one for this activation."""
    is_gate = spec.kind == "gated" and spec.activation == "silu"
    if crew is None or not is_gate or spec.width % LANES or rows.dtype != torch.float32:
        return torch_math.activate(rows, spec, apply)
    given, out = rows.contiguous(), torch.empty(rows.shape[0], spec.width)
    crew.rows.gate_rows(given.data_ptr(), out.data_ptr(), rows.shape[0], spec.width)
    return out
