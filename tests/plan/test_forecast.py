"""What a swarm would do with a model: never slower than one device, and what many get in total."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.device import Link
from manyhands.errors import ResourceError
from manyhands.plan.cost import Cost, memory_bytes
from manyhands.plan.forecast import forecast
from small_swarms import device, devices, model, peer_id, record, swarm

SPEC, TOKENS = model(6), 8
COST = Cost(context=4)
NEEDED = memory_bytes(SPEC, SPEC.span, TOKENS, COST)


def of(*memory, **options):
    records = [record(n, of=device(memory=size, **options)) for n, size in enumerate(memory, 1)]
    return swarm(*records)


@given(st.lists(devices(), min_size=1, max_size=5))
def test_one_answer_is_never_slower_than_on_the_best_single_device(found):
    fleet = swarm(*(record(n, of=one) for n, one in enumerate(found, 1)))
    told = forecast(fleet, SPEC, peer_id(1), COST, tokens=TOKENS)
    assert told.answer_tok_s >= told.alone_tok_s * (1 - 1e-9)
    assert told.total_tok_s >= told.answer_tok_s * (1 - 1e-9)


def test_whole_copies_add_up_and_the_links_to_them_are_counted():
    one = forecast(of(10**9), SPEC, peer_id(1), COST, tokens=TOKENS)
    assert one.many.name == "one device"
    assert one.total_tok_s == pytest.approx(1 / one.placement.stage_s[0])
    far = swarm(
        *of(10**9, 10**9).peers.values(),
        links=(Link(peer_id(1), peer_id(2), 0.0, 1e9), Link(peer_id(2), peer_id(1), 0.0, 1e9)),
    )
    two = forecast(far, SPEC, peer_id(1), COST, tokens=TOKENS)
    assert two.many.name == "2 whole copies"
    assert {route.peers() for route in two.many.routes} == {(peer_id(1),), (peer_id(2),)}
    assert two.many.instead[0].name == "one device"
    assert two.total_tok_s == pytest.approx(2 * one.total_tok_s, rel=1e-3)
    assert two.placement.left_out == (peer_id(2),)


def test_a_model_that_no_device_holds_goes_in_stages_and_many_share_the_slowest():
    share = int(NEEDED * 0.7)
    told = forecast(of(share, share), SPEC, peer_id(1), COST, tokens=TOKENS)
    assert told.alone_tok_s is None
    assert told.many.name == "one pipeline of 2"
    assert len(told.placement.route) == 2
    assert told.total_tok_s >= (1 - 1e-9) / max(told.placement.stage_s)
    assert told.needed_bytes == NEEDED


def test_of_a_prompt_the_slowest_stage_or_link_decides():
    share = int(NEEDED * 0.7)
    fleet = of(share, share)
    quick = forecast(fleet, SPEC, peer_id(1), COST, tokens=TOKENS, chunk=4)
    narrow = replace(COST, rate_bytes_per_s=1e3)
    slow = forecast(fleet, SPEC, peer_id(1), narrow, tokens=TOKENS, chunk=4)
    assert slow.prompt_tok_s < quick.prompt_tok_s / 2
    assert quick.prompt_tok_s > quick.answer_tok_s


def test_what_fits_nowhere_is_said_with_how_much_is_missing():
    with pytest.raises(ResourceError, match="1 devices have"):
        forecast(of(NEEDED // 2), SPEC, peer_id(1), COST, tokens=TOKENS)


def test_four_halves_are_two_pipelines_for_many_and_one_for_one():
    told = forecast(of(*[int(NEEDED * 0.7)] * 4), SPEC, peer_id(1), COST, tokens=TOKENS)
    assert len(told.placement.route) == 2
    assert told.many.total_tok_s > 1.5 / max(told.placement.stage_s)
    assert len({peer for route in told.many.routes for peer in route.peers()}) == 4
    names = {other.name: other.tok_s for other in told.many.instead}
    assert names["one device"] is None
    assert all(tok_s is None or tok_s <= told.total_tok_s for tok_s in names.values())


def test_a_whole_copy_and_a_pipeline_of_the_rest_are_told_as_such():
    told = forecast(
        of(NEEDED * 2, int(NEEDED * 0.7), int(NEEDED * 0.7)), SPEC, peer_id(1), COST, tokens=TOKENS
    )
    one = told.many
    assert sum(len(route) for route in one.routes) == 3
    assert one.total_tok_s >= max(other.tok_s or 0 for other in one.instead)
    assert told.placement.route.peers() == (peer_id(1),)


def test_the_first_token_waits_for_all_chunks_of_a_prompt():
    fleet = of(10**9)
    short = forecast(fleet, SPEC, peer_id(1), COST, tokens=8, chunk=4)
    long = forecast(fleet, SPEC, peer_id(1), COST, tokens=32, chunk=4)
    assert (short.prompt_tokens, long.prompt_tokens) == (4, 16)
    assert long.first_token_s > 3 * short.first_token_s
    assert long.first_token_s == pytest.approx(16 / long.prompt_tok_s, rel=0.01)


def test_cutting_every_matrix_is_named_only_where_its_sums_cost_less_than_it_saves():
    fleet = of(10**9, 10**9)
    slow_links = replace(COST, latency_s=0.01)
    assert forecast(fleet, SPEC, peer_id(1), slow_links, tokens=TOKENS).split is None
    quick = replace(COST, latency_s=1e-6, rate_bytes_per_s=1e12)
    split = forecast(fleet, SPEC, peer_id(1), quick, tokens=TOKENS).split
    assert split is not None
    assert split.peers == (peer_id(1), peer_id(2))
