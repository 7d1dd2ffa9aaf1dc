"""The numeric form in which "the same result" is meant."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.domain.ids import digest


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that decides a result's bits, or their tolerance.

    `weights` names the weight files, `arithmetic` what is multiplied with what and accumulated in
    what, `kernels` the kernel set (engine-dtype-ours-theirs: the version of our arithmetic, then of
    the library), `accepts` kernel sets of other engines or dtypes that a stand-in may use all the
    same (see `allows`). `row_invariant`: a row's bits do not depend on what is computed beside it.
    If False, logits of the same text may differ by up to `tolerance` between chunkings.
    """

    weights: str
    weight_format: str
    arithmetic: str
    kernels: str
    wire_codec: str
    row_invariant: bool
    tolerance: float
    accepts: tuple[str, ...] = ()

    def allows(self, kernels: str) -> bool:
        """True when a peer with these kernels may take part: the answer is labelled with them.

        Devices of one house rarely have the same versions, so those of one engine and dtype may:
        `accepts` may name one as engine-dtype, without them.
        """
        theirs = "-".join(kernels.split("-")[:2])
        is_same = theirs == "-".join(self.kernels.split("-")[:2])
        return is_same or kernels in self.accepts or theirs in self.accepts

    def digest(self) -> str:
        """SHA-256 of this profile."""
        return digest("profile", self)
