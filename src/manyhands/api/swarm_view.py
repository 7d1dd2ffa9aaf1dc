"""The swarm as a page or a program sees it: who is here, who holds what, what is missing.

Pure. Says nothing that is secret: no addresses, keys, invites or texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from manyhands.domain.device import Link
from manyhands.domain.giving import TOLD
from manyhands.domain.ids import ModelId, PeerId, short
from manyhands.domain.swarm import Holding, HoldingState, PeerRecord, Swarm

Json = dict[str, Any]

RANK: tuple[HoldingState, ...] = ("ready", "draining", "fetching", "stored")
"""The best state first: what a layer is, when several peers hold it."""

MISSING = "layers are missing"
HELD_BACK = "layers are held only by peers that give nothing now"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What is told of a model besides who holds it."""

    name: str
    id: ModelId
    layers: int
    context: int
    speaks: bool
    chats: bool
    hears_system: bool


def swarm_view(swarm: Swarm, me: PeerId, models: Sequence[ServedModel], answering: int) -> Json:
    """One snapshot. `answering` requests are at work at this peer's server."""
    records = sorted(swarm.peers.values(), key=lambda record: _place(record, me))
    return {
        "peer": me,
        "answering": answering,
        "models": [_model(model, records) for model in models],
        "peers": [_peer(record, me, models) for record in records],
        "links": [_link(link) for _, link in sorted(swarm.links.items())],
    }


def health(swarm: Swarm, models: Iterable[ServedModel]) -> str:
    """`ok` when every layer is loaded somewhere, else what is wrong with them."""
    states = {state for one in models for state, _ in _layers(one, swarm.peers.values())}
    if None in states:
        return MISSING
    if "draining" in states:
        return HELD_BACK
    return "layers are not loaded yet" if states & {"fetching", "stored"} else "ok"


def _place(record: PeerRecord, me: PeerId) -> tuple[bool, int, str]:
    """Where a peer stands: this one first, then in the order of the layers they hold."""
    loaded = [held.span.first for held in record.holdings if held.state != "stored"]
    return record.peer != me, min(loaded, default=1 << 30), record.peer


def _model(model: ServedModel, records: Sequence[PeerRecord]) -> Json:
    layers = _layers(model, records)
    runs: list[Json] = []
    for layer, (state, count) in enumerate(layers):
        last = runs[-1] if runs else None
        if last is not None and (last["state"], last["peers"]) == (state, count):
            last["last"] = layer + 1
        else:
            runs.append({"first": layer, "last": layer + 1, "state": state, "peers": count})
    return {
        "name": model.name,
        "id": model.id,
        "layers": model.layers,
        "context": model.context,
        "speaks": model.speaks,
        "chats": model.chats,
        "hears_system": model.hears_system,
        "coverage": runs,
        "missing": [
            {"first": run["first"], "last": run["last"]} for run in runs if run["state"] is None
        ],
    }


def _layers(
    model: ServedModel, records: Iterable[PeerRecord]
) -> list[tuple[HoldingState | None, int]]:
    """For each layer the best state it is in, and at how many peers it is in that state."""
    found: list[dict[HoldingState, set[PeerId]]] = [{} for _ in range(model.layers)]
    for record in records:
        for held in _of(model, record.holdings):
            for layer in range(held.span.first, min(held.span.last, model.layers)):
                found[layer].setdefault(held.state, set()).add(record.peer)
    return [
        next(((state, len(states[state])) for state in RANK if state in states), (None, 0))
        for states in found
    ]


def _link(link: Link) -> Json:
    return {
        "source": link.source,
        "target": link.target,
        "latency_s": link.latency_s,
        "rate_bytes_per_s": link.rate_bytes_per_s,
    }


def _of(model: ServedModel, holdings: Iterable[Holding]) -> Iterable[Holding]:
    return (held for held in holdings if held.model == model.id)


def _peer(record: PeerRecord, me: PeerId, models: Sequence[ServedModel]) -> Json:
    device = record.device
    return {
        "id": record.peer,
        "short": short(record.peer),
        "name": record.name,
        "is_me": record.peer == me,
        "device": {
            "kind": device.kind,
            "memory_bytes": device.memory_bytes,
            "read_bytes_per_s": device.read_bytes_per_s,
            "flops_per_s": device.flops_per_s,
            "overhead_s": device.overhead_s,
        },
        "kernels": record.kernels,
        "paused": TOLD.get(record.paused),
        "room_bytes": record.room_bytes,
        "holdings": [
            {
                "model": model.name,
                "first": held.span.first,
                "last": held.span.last,
                "state": held.state,
            }
            for model in models
            for held in _of(model, record.holdings)
        ],
    }
