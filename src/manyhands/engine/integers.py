"""The arithmetic of a model in blocks of integers, for both engines: products, tables, attention.

Every row's result depends on that row alone, so its bits are the same whatever is computed beside
it. Knows nothing of layers or torch: rows come and go as float32 numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.model_spec import Attention, ModelSpec, TensorSource
from manyhands.domain.profile import Profile
from manyhands.domain.weight_format import IntegerFormat, weight_format
from manyhands.engine.block_linear import Product
from manyhands.engine.block_weights import BlockLinear, product_of, read_linear, read_panels
from manyhands.engine.compiled import kernel_set, new_crew
from manyhands.engine.engine import Weights
from manyhands.engine.row_attention import Kept, attend

if TYPE_CHECKING:
    from manyhands.engine.crew import Crew

Float32 = NDArray[np.float32]

ARITHMETIC = 5
"""Names this arithmetic. Raise it with every change that can change a bit of a result.
2: attention of queries that share keys. 3: torch's activations in whole vectors.
4: keys and values kept in bfloat16. 5: kernels for norms, rotations, gates, heads of 16 numbers.
"""

ENGINES = ("numpy", "torch")
TOLERANCE = 0.1
"""How far logits of one text may lie apart between engines, at the usual size of logits."""


class BlockTable:
    """Rows to be looked up by id, of a matrix that a head may multiply with as well."""

    def __init__(self, product: Product) -> None:
        self.product = product

    def __getitem__(self, places: object) -> Float32:
        """Rows [N, D] at places [N]."""
        return self.product.rows_at(np.asarray(places, np.int64))


class Integers:
    """How one engine multiplies: by the threads of a crew, or by numpy where `crew` is None."""

    def __init__(self, crew: Crew | None) -> None:
        self._crew = crew

    @property
    def crew(self) -> Crew | None:
        """The threads that multiply, and attend."""
        return self._crew

    def linear(
        self, matrices: Sequence[TensorSource], weights: Weights, bias: Float32 | None
    ) -> BlockLinear:
        """Matrices under each other."""
        return read_linear(matrices, weights, self._crew, bias)

    def table(self, source: TensorSource, weights: Weights) -> BlockTable:
        """A table that is stored in blocks."""
        return BlockTable(product_of(read_panels(source, weights), self._crew))

    def attend(
        self,
        queries: Float32,
        keys: Kept,
        values: Kept,
        position: int,
        spec: Attention,
        sinks: Float32 | None,
    ) -> Float32:
        """See row_attention."""
        return attend(queries, keys, values, position, spec, sinks, self._crew)


def integers_of(spec: ModelSpec, threads: int | None) -> Integers | None:
    """What multiplies a model that is stored in blocks; None for any other.

    The first time on a machine this compiles, which takes some seconds.
    """
    return None if weight_format(spec) is None else Integers(new_crew(threads))


def profile(
    weights: str, form: IntegerFormat, engine: str, arithmetic: int, library: str
) -> Profile:
    """The numeric form of such a model's results; `engine` computes all but products, attention.

    The other engine may stand in: products are the same, and what is between them differs as little
    as in float32; but a number just between two codes may become another, so it is named.
    """
    return Profile(
        weights=weights,
        weight_format=form,
        arithmetic=f"{form} x int8 -> int32 by blocks of 32, scaled and added in fp32; else fp32, "
        "keys and values kept in bf16",
        kernels=f"{engine}-{form}-{ARITHMETIC}.{arithmetic}-{library}-{kernel_set()}",
        wire_codec="fp32",
        row_invariant=True,
        tolerance=TOLERANCE,
        accepts=tuple(f"{other}-{form}" for other in ENGINES if other != engine),
    )
