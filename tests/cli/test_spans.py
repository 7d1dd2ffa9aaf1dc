"""`--span`: of this device, of others by name or id, and what is wrong with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manyhands.cli.spans import by_peer, read_spans
from manyhands.domain.span import Span
from manyhands.errors import UserError
from small_swarms import model, peer_id, record, swarm

SPEC = model(6)
ME, BEN, CARA = (peer_id(n) for n in (0x1001, 0x2002, 0x2003))
HOME = swarm(
    record(0x1001), replace(record(0x2002), name="laptop-ben"), replace(record(0x2003), name="pc")
)


def test_spans_are_of_this_device_or_of_named_ones():
    typed = read_spans(("0:2", "laptop-ben=2:5", "2003=5:8"), SPEC)
    assert typed.here == Span(0, 2)
    assert by_peer(typed, HOME, ME) == {ME: Span(0, 2), BEN: Span(2, 5), CARA: Span(5, 8)}
    assert by_peer(read_spans((), SPEC), HOME, ME) == {}


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (("0:2", "2:4"), "twice for this device"),
        (("pc=0:2", "pc=2:4"), "twice for pc"),
        (("=0:2",), "names no device"),
        (("pc=0:9",), "no span of this model"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed, why):
    with pytest.raises(UserError, match=why):
        read_spans(typed, SPEC)


@pytest.mark.parametrize(("name", "why"), [("anna", "no device"), ("200", "no device")])
def test_a_name_that_is_nobodys_is_told(name, why):
    with pytest.raises(UserError, match=why):
        by_peer(read_spans((f"{name}=0:2",), SPEC), HOME, ME)


def test_a_name_of_two_is_told():
    two = replace(HOME.peers[CARA], name="laptop-ben")
    both = replace(HOME, peers={**HOME.peers, CARA: two})
    with pytest.raises(UserError, match="more than one device"):
        by_peer(read_spans(("laptop-ben=0:2",), SPEC), both, ME)
