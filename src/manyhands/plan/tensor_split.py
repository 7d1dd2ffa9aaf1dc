"""What a token would cost with every matrix cut over several devices, beside layers in a row.

Each device then holds a part of every layer in proportion to what it reads a second, and all sum a
row twice a block: pays only where 2 x blocks x (latency + overhead) is less than reading together
saves. Nothing here runs it: it is counted so that a plan can say what it would be worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import permutations
from math import ceil, log2

from manyhands.domain.device import Device
from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.swarm import Swarm
from manyhands.plan.cost import (
    FRAME_BYTES,
    MEMORY_SHARE,
    Cost,
    answer_bytes,
    link_between,
    link_s,
    memory_bytes,
    prompt_bytes,
    span_s,
)

SUM_S = 100e-6
"""Of a sum beside its link: rows handed to the loop and back, and added. On loopback, where next to
nothing is the link's, our own took 42 to 153 µs and gloo 258 to 376 (benchmarks/all_reduce.py)."""

SUMS_A_BLOCK = 2
"""After attention and after the matrices behind it (Megatron, Shoeybi et al. 2019)."""


@dataclass(frozen=True, slots=True)
class TensorSplit:
    """Who would hold a part of every layer, and the seconds of a step."""

    peers: tuple[PeerId, ...]
    step_s: float


def tensor_split(
    swarm: Swarm, spec: ModelSpec, owner: PeerId, cost: Cost, *, tokens: int
) -> TensorSplit | None:
    """The best of cutting over the 2, 3, … devices that read most; None where none has the room."""
    readers = sorted(
        (peer for peer, record in swarm.peers.items() if record.device.read_bytes_per_s > 0),
        key=lambda peer: (-swarm.peers[peer].device.read_bytes_per_s, peer),
    )
    needed = memory_bytes(spec, spec.span, tokens, cost)
    found = []
    for count in range(2, len(readers) + 1):
        peers = readers[:count]
        devices = [swarm.peers[peer].device for peer in peers]
        if _have_room(devices, needed) and not any(
            pair in swarm.broken for pair in permutations(peers, 2)
        ):
            found.append(TensorSplit(tuple(peers), _step_s(swarm, spec, owner, cost, peers)))
    return min(found, key=lambda one: one.step_s, default=None)


def summed_s(spec: ModelSpec, count: int, hop_s: float) -> float:
    """Seconds of a token's sums over `count` devices when a row takes `hop_s` from one to another.

    By recursive doubling: each sum takes log2 of their number rounds. The head is one more.
    """
    return (SUMS_A_BLOCK * len(spec.blocks) + 1) * ceil(log2(count)) * (hop_s + SUM_S)


def together(devices: Iterable[Device]) -> Device:
    """One device that reads and multiplies as fast as all of them together."""
    first, *others = devices
    for other in others:
        first = replace(
            first,
            read_bytes_per_s=first.read_bytes_per_s + other.read_bytes_per_s,
            flops_per_s=first.flops_per_s + other.flops_per_s,
            overhead_s=max(first.overhead_s, other.overhead_s),
        )
    return first


def _have_room(devices: list[Device], needed: int) -> bool:
    all_read = sum(device.read_bytes_per_s for device in devices)
    return all(
        needed * device.read_bytes_per_s / all_read <= MEMORY_SHARE * device.memory_bytes
        for device in devices
    )


def _step_s(swarm: Swarm, spec: ModelSpec, owner: PeerId, cost: Cost, peers: list[PeerId]) -> float:
    row_bytes = FRAME_BYTES + round(cost.tokens * spec.width * cost.bytes_per_hidden)

    def sent_s(source: PeerId, target: PeerId, size: int) -> float:
        return link_s(link_between(swarm, source, target, cost), size)

    hop_s = max(sent_s(source, target, row_bytes) for source, target in permutations(peers, 2))
    ends_s = sent_s(owner, peers[0], prompt_bytes(cost)) + sent_s(peers[0], owner, answer_bytes())
    device = together(swarm.peers[peer].device for peer in peers)
    return span_s(spec, spec.span, device, cost) + summed_s(spec, len(peers), hop_s) + ends_s
