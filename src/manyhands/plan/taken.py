"""What devices have left for a model where others are placed already, or held.

A swarm in, a swarm out, whose devices have less memory: whatever plans with it leaves the rest
alone. Of models that are held only weights are known, from a peer's own word; of models planned in
the same breath, memory for their tokens too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.domain.work import Route
from manyhands.plan.cost import MEMORY_SHARE, Cost, memory_bytes, weight_bytes


def left_of(device: Device, taken_bytes: int) -> Device:
    """The device with `taken_bytes` of what may be planned of its memory given away."""
    memory_bytes = max(0, device.memory_bytes - round(taken_bytes / MEMORY_SHARE))
    return replace(device, memory_bytes=memory_bytes)


def held_by_others(record: PeerRecord, model: ModelId, spec: ModelSpec, cost: Cost) -> int:
    """Bytes that models but this one take at a peer, by what it says is free; 0 without any."""
    loaded = [held for held in record.holdings if held.state in ("ready", "draining")]
    if all(held.model == model for held in loaded):
        return 0
    own = (held.span for held in loaded if held.model == model)
    within = (span.overlap(spec.span) for span in own)
    own_bytes = sum(weight_bytes(spec, span, cost) for span in within if span is not None)
    return max(0, record.device.memory_bytes - record.room_bytes - own_bytes)


def left_for(swarm: Swarm, model: ModelId, spec: ModelSpec, cost: Cost) -> Swarm:
    """The swarm without the memory that its devices have given to other models."""
    return _without(
        swarm,
        {
            peer: held_by_others(record, model, spec, cost)
            for peer, record in swarm.peers.items()
            if record.holdings
        },
    )


def left_after(swarm: Swarm, route: Route, spec: ModelSpec, tokens: int, cost: Cost) -> Swarm:
    """The swarm once a model lies along `route` with memory for `tokens` tokens."""
    taken: dict[PeerId, int] = {}
    for stage in route.stages:
        size = memory_bytes(spec, stage.span, tokens, cost)
        taken[stage.peer] = taken.get(stage.peer, 0) + size
    return _without(swarm, taken)


def _without(swarm: Swarm, taken: Mapping[PeerId, int]) -> Swarm:
    if not any(taken.values()):
        return swarm
    peers = {
        peer: replace(record, device=left_of(record.device, taken.get(peer, 0)))
        for peer, record in swarm.peers.items()
    }
    return replace(swarm, peers=peers)
