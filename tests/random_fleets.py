"""Random small fleets for the planner: odd links, broken links, unlike speeds and memories."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from random import Random

from manyhands.domain.device import Link
from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.plan.cost import Cost, layer_work, memory_bytes
from small_swarms import device, model, peer_id, record, swarm

OWNER = peer_id(0)
COST = Cost(tokens=1, context=8)
TOKENS = 8
READS = (1e5, 3e5, 1e6, 4e6)
MEMORIES = (3000, 4500, 6000, 9000, 12_000)


@dataclass(frozen=True)
class Fleet:
    """A swarm and the model to place on it; the owner holds nothing."""

    swarm: Swarm
    spec: ModelSpec


def random_fleet(seed: int, least: int, most: int, blocks: tuple[int, int] = (2, 8)) -> Fleet:
    """From `least` to `most` devices; links measured, guessed and broken."""
    chance = Random(seed)
    count = chance.randint(least, most)
    names = [peer_id(n) for n in range(count + 1)]
    pairs = [(a, b) for a in names for b in names if a != b]
    records = [
        record(
            number,
            of=device(chance.choice(READS), chance.choice((1e6, 1e7)), chance.choice(MEMORIES)),
        )
        for number in range(1, count + 1)
    ]
    measured = chance.sample(pairs, chance.randint(0, len(pairs)))
    links = tuple(Link(a, b, chance.randint(0, 6) * 1e-3, 1e6) for a, b in measured)
    broken = tuple(chance.sample(pairs, chance.randint(0, len(pairs) // 3)))
    spec = model(chance.randint(*blocks), tied=chance.random() < 0.3)
    return Fleet(swarm(*records, links=links, broken=broken), spec)


def best_of_all(fleet: Fleet) -> tuple[float, float]:
    """Least seconds of a step over every order and all cuts, and of every device alone.

    Nothing of the planner's search is in it: each device is given each number of layers in turn.
    Infinite where nothing fits.
    """
    peers, spec = fleet.swarm.peers, fleet.spec
    layers = len(spec.layers)
    hidden = 300 + spec.width * COST.bytes_per_hidden + 4
    work = [layer_work(layer, COST) for layer in spec.layers]
    best = [inf, inf]

    def sent_s(source: PeerId, target: PeerId, size: float) -> float:
        if (source, target) in fleet.swarm.broken:
            return inf
        known = fleet.swarm.links.get((source, target))
        if known is None:
            return COST.latency_s + size / COST.rate_bytes_per_s
        return known.latency_s + size / known.rate_bytes_per_s

    def go_on(first: int, seconds: float, at: PeerId, used: frozenset[PeerId]) -> None:
        if first == layers:
            total = seconds + sent_s(at, OWNER, 304)
            best[0] = min(best[0], total)
            best[1] = min(best[1], total) if len(used) == 1 else best[1]
            return
        for peer in peers.keys() - used:
            here = peers[peer].device
            door_s = seconds + sent_s(at, peer, hidden if used else 304)
            for last in range(first + 1, layers + 1):
                size = memory_bytes(spec, Span(first, last), TOKENS, COST)
                if door_s == inf or size > 0.9 * here.memory_bytes:
                    break
                read, flops = work[last - 1]
                door_s += max(read / here.read_bytes_per_s, flops / here.flops_per_s)
                door_s += here.overhead_s
                go_on(last, door_s, peer, used | {peer})

    go_on(0, 0.0, OWNER, frozenset())
    return best[0], best[1]
