"""The numeric form in which "the same result" is meant."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.domain.ids import digest


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that decides a result's bits, or their tolerance.

    `weights` names the weight files, `arithmetic` what is multiplied with what and accumulated in
    what, `kernels` the kernel set (engine-dtype-version), `accepts` other kernel sets a stand-in
    may use (the answer is then labelled with them). `row_invariant`: a row's bits do not depend on
    what is computed beside it. If False, logits of the same text may differ by up to `tolerance`
    between chunkings.
    """

    weights: str
    weight_format: str
    arithmetic: str
    kernels: str
    wire_codec: str
    row_invariant: bool
    tolerance: float
    accepts: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of this profile."""
        return digest("profile", self)


def is_same_arithmetic(kernels: str, others: str) -> bool:
    """True when two kernel sets are of the same engine and dtype, in whatever versions."""
    return kernels.split("-")[:2] == others.split("-")[:2]
