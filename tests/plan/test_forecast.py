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
    assert one.copies == ()
    assert one.total_tok_s == pytest.approx(1 / one.placement.stage_s[0])
    far = swarm(
        *of(10**9, 10**9).peers.values(),
        links=(Link(peer_id(1), peer_id(2), 0.0, 1e9), Link(peer_id(2), peer_id(1), 0.0, 1e9)),
    )
    two = forecast(far, SPEC, peer_id(1), COST, tokens=TOKENS)
    assert two.copies == (peer_id(1), peer_id(2))
    assert two.total_tok_s == pytest.approx(2 * one.total_tok_s, rel=1e-3)
    assert two.placement.left_out == (peer_id(2),)


def test_a_model_that_no_device_holds_goes_in_stages_and_many_share_the_slowest():
    share = int(NEEDED * 0.7)
    told = forecast(of(share, share), SPEC, peer_id(1), COST, tokens=TOKENS)
    assert told.alone_tok_s is None
    assert told.copies == ()
    assert len(told.placement.route) == 2
    assert told.total_tok_s == pytest.approx(1 / max(told.placement.stage_s))
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
