"""What was measured of a device and of the link between two peers. Never self-declared figures."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.domain.ids import PeerId


@dataclass(frozen=True, slots=True)
class Device:
    """What a peer computes with.

    `read_bytes_per_s` is what a matrix-vector product reaches (decoding is bound by it),
    `flops_per_s` what a matrix product reaches (prefill is), `overhead_s` the fixed time of one
    layer.
    """

    kind: str
    memory_bytes: int
    read_bytes_per_s: float
    flops_per_s: float
    overhead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Link:
    """The measured path from one peer to another, one way."""

    source: PeerId
    target: PeerId
    latency_s: float
    rate_bytes_per_s: float
