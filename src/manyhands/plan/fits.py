"""Whether a model fits on a device, or on two like it, and how fast it would answer there.

Asks `placement` for one peer and for two equal ones, so what is told is what would be done. Knows
nothing of measuring or of which models there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from manyhands.domain.device import Device
from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.sizes import span_elements
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.errors import ResourceError
from manyhands.plan.cost import MEMORY_SHARE, Cost, memory_bytes, span_s, weight_bytes
from manyhands.plan.placement import Placement, place

_HERE, _OTHER = PeerId("00" * 32), PeerId("01" * 32)


@dataclass(frozen=True, slots=True)
class Fit:
    """What one device can do with a model, and what two like it can.

    `needed_bytes` must be free for weights, key/value memory and workspace. `tok_s` is the decoding
    of one conversation, `tok_s_with_one_more` the same with a second device like it: None where it
    does not fit. `devices` is the least number of devices like this one that could hold it.
    """

    parameters: int
    weight_bytes: int
    needed_bytes: int
    tok_s: float | None
    tok_s_with_one_more: float | None
    devices: int
    reason: str


def fit(spec: ModelSpec, device: Device, cost: Cost, *, tokens: int) -> Fit:
    """Count a model on `device` alone and on two of them, joined by the link `cost` stands for.

    Memory is for `tokens` tokens of context, speed with `cost.context` tokens in it (see Cost).
    """
    held = memory_bytes(spec, spec.span, tokens, cost)
    needed = ceil(held / MEMORY_SHARE)
    alone = _placed(spec, device, cost, tokens, 1)
    two = _placed(spec, device, cost, tokens, 2)
    lacking = max(3, ceil(needed / max(1, device.memory_bytes)))
    return Fit(
        parameters=span_elements(spec, spec.span),
        weight_bytes=weight_bytes(spec, spec.span, cost),
        needed_bytes=needed,
        tok_s=_rate(alone),
        tok_s_with_one_more=_rate(two),
        devices=1 if alone else 2 if two else lacking,
        reason=_reason(alone, two, needed, device, lacking),
    )


def prompt_tok_s(spec: ModelSpec, device: Device, cost: Cost) -> float:
    """Tokens a second of a prompt read in steps of `cost.tokens` on one device that holds it."""
    return cost.tokens / span_s(spec, spec.span, device, cost)


def _placed(
    spec: ModelSpec, device: Device, cost: Cost, tokens: int, count: int
) -> Placement | None:
    records = [
        PeerRecord(peer, sequence=1, expires_s=0.0, address="", device=device)
        for peer in (_HERE, _OTHER)[:count]
    ]
    swarm = Swarm(peers={record.peer: record for record in records})
    try:
        return place(swarm, spec, _HERE, cost, tokens=tokens)
    except ResourceError:
        return None


def _reason(
    alone: Placement | None, two: Placement | None, needed: int, device: Device, lacking: int
) -> str:
    if alone is not None:
        return "fits here; one answer is no quicker on two: a token passes every block in turn"
    lacks = f"needs {needed / 1e9:.1f} GB free, here are {device.memory_bytes / 1e9:.1f}"
    if two is not None:
        first, second = (len(stage.span) for stage in two.route.stages)
        return f"{lacks}; two hold it, {first} and {second} layers"
    return f"{lacks}; at least {lacking} like this one would hold it"


def _rate(placed: Placement | None) -> float | None:
    return None if placed is None else 1 / placed.step_s
