"""Routes for many sessions: disjoint, within memory, never less than any single way gives."""

from math import isclose

import pytest

from manyhands.domain.span import is_cover
from manyhands.errors import ResourceError
from manyhands.plan.cost import MEMORY_SHARE, memory_bytes, span_s
from manyhands.plan.placement import place
from manyhands.plan.throughput import throughput
from random_fleets import COST, OWNER, TOKENS, random_fleet
from small_swarms import device, model, record, swarm


def test_on_random_fleets_many_get_the_most_of_all_ways_within_every_devices_memory():
    served = 0
    for seed in range(200):
        fleet = random_fleet(seed, 1, 6)
        found, spec = fleet.swarm, fleet.spec
        try:
            placed = place(found, spec, OWNER, COST, tokens=TOKENS)
        except ResourceError:
            with pytest.raises(ResourceError):
                throughput(found, spec, OWNER, COST, tokens=TOKENS)
            continue
        many = throughput(found, spec, OWNER, COST, tokens=TOKENS)
        served += 1
        assert many.total_tok_s * (1 + 1e-9) >= 1 / placed.step_s
        assert all((one.tok_s or 0) <= many.total_tok_s * (1 + 1e-9) for one in many.instead), seed
        assert many.name not in {one.name for one in many.instead}
        peers = [peer for route in many.routes for peer in route.peers()]
        assert len(peers) == len(set(peers))
        for route, tok_s in zip(many.routes, many.each_tok_s, strict=True):
            assert is_cover([stage.span for stage in route.stages], len(spec.layers))
            for stage in route.stages:
                here = found.peers[stage.peer].device
                needed = memory_bytes(spec, stage.span, TOKENS, COST)
                assert needed <= MEMORY_SHARE * here.memory_bytes
                assert tok_s <= (1 + 1e-9) / span_s(spec, stage.span, here, COST)
    assert served > 120


def test_a_link_that_is_slow_to_answer_but_wide_costs_many_nothing():
    spec = model(4)
    found = swarm(record(1), record(2))
    far = throughput(found, spec, OWNER, COST, tokens=TOKENS)
    here_s = span_s(spec, spec.span, device(), COST)
    assert isclose(far.total_tok_s, 2 / here_s, rel_tol=1e-9)
    assert far.name == "2 whole copies"


def test_where_nothing_computes_or_fits_it_is_said():
    spec = model(4)
    with pytest.raises(ResourceError, match="add a peer"):
        throughput(swarm(), spec, OWNER, COST, tokens=TOKENS)
    small = swarm(record(1, of=device(memory=10)))
    with pytest.raises(ResourceError, match="add a device"):
        throughput(small, spec, OWNER, COST, tokens=TOKENS)
