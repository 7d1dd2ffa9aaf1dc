"""The swarm as one peer knows it: an immutable snapshot, the events that change it, and `apply`.

Knows nothing of signatures or clocks: what reaches `apply` has been checked before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from manyhands.domain.device import Device, Link
from manyhands.domain.giving import Pause
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.span import Span

MOST_LINKS = 64
"""A record tells of so many links at most."""

HoldingState = Literal["stored", "fetching", "ready", "draining"]
"""stored: could be loaded from this peer's disk; ready: loaded and taking sessions; draining:
loaded, and taking no new ones, because it will be let go of or its peer pauses."""

Change = Literal["load", "let_go"]
"""What a peer may be asked to do with a span."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A span of a model at a peer."""

    model: ModelId
    span: Span
    state: HoldingState


@dataclass(frozen=True, slots=True)
class LinkTo:
    """What a peer measured of the way from itself to a neighbour; see Link."""

    target: PeerId
    latency_s: float
    rate_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """What a peer says of itself; the newest `sequence` wins, nobody else may speak for it.

    `room_bytes` is free for weights and key/value memory; `queue_s` is work already waiting;
    `kernels` names the kernel set its engine computes with (see Profile); `links` are those from
    it to its neighbours, as it measured them; `paused` is why it gives nothing now; `moves` are the
    models whose layers it takes and lets go of as the swarm plans; `name` is what people call the
    device;
    `expires_s` is on the clock of the swarm's peers.
    """

    peer: PeerId
    sequence: int
    expires_s: float
    address: str
    device: Device
    kernels: str = ""
    holdings: tuple[Holding, ...] = ()
    room_bytes: int = 0
    queue_s: float = 0.0
    links: tuple[LinkTo, ...] = ()
    paused: Pause = ""
    moves: tuple[ModelId, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Swarm:
    """Immutable snapshot of peers, links and holdings at one version."""

    version: int = 0
    peers: Mapping[PeerId, PeerRecord] = field(default_factory=dict)
    links: Mapping[tuple[PeerId, PeerId], Link] = field(default_factory=dict)
    broken: frozenset[tuple[PeerId, PeerId]] = frozenset()


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """A checked record arrived, from its peer or through others.

    A broken link that it tells a new figure of is whole again.
    """

    record: PeerRecord


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A peer left, was lost, or its record expired."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class LinkBroken:
    """Messages from `source` do not reach `target`."""

    source: PeerId
    target: PeerId


Event = RecordSeen | PeerGone | LinkBroken


def apply(swarm: Swarm, event: Event) -> Swarm:
    """The swarm after `event`; the same object when the event changes nothing (an older record)."""
    match event:
        case RecordSeen(record):
            known = swarm.peers.get(record.peer)
            if known is not None and known.sequence >= record.sequence:
                return swarm
            peers = {**swarm.peers, record.peer: record}
            told = {
                (record.peer, link.target): Link(
                    record.peer, link.target, link.latency_s, link.rate_bytes_per_s
                )
                for link in record.links
            }
            others = {ends: link for ends, link in swarm.links.items() if ends[0] != record.peer}
            measured = {ends for ends, link in told.items() if swarm.links.get(ends) != link}
            return Swarm(swarm.version + 1, peers, others | told, swarm.broken - measured)
        case PeerGone(peer):
            if peer not in swarm.peers:
                return swarm
            return Swarm(
                version=swarm.version + 1,
                peers={name: record for name, record in swarm.peers.items() if name != peer},
                links={ends: link for ends, link in swarm.links.items() if peer not in ends},
                broken=frozenset(ends for ends in swarm.broken if peer not in ends),
            )
        case LinkBroken(source, target):
            if (source, target) in swarm.broken:
                return swarm
            return replace(
                swarm, version=swarm.version + 1, broken=swarm.broken | {(source, target)}
            )
        case _:
            assert_never(event)
