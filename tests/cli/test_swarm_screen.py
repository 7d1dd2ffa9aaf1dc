"""The swarm as lines: who holds what, how many each layer, the links, at every width."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.api.swarm_view import ServedModel, swarm_view
from manyhands.cli.swarm_screen import Shown, screen
from manyhands.domain.device import Link
from manyhands.domain.span import Span
from small_swarms import MODEL, peer_id, record, swarm, swarms

LAYERS = 6
SERVED = ServedModel("tiny", MODEL, LAYERS, 128, speaks=True, chats=True, hears_system=True)


def shown(seen, **more) -> Shown:
    return Shown("http://127.0.0.1:7700", swarm_view(seen, peer_id(1), [SERVED], 2), **more)


def lines(seen, *size, **more) -> list[str]:
    return [line.plain for line in screen(shown(seen, **more), *size)]


def test_each_peer_is_a_bar_and_each_layer_says_how_many_hold_it():
    seen = swarm(record(1, (Span(0, 3),)), record(2, (Span(2, 4),)), record(3, (Span(2, 5),)))
    said = lines(seen)
    assert said[0] == "http://127.0.0.1:7700  3 peers · 2 answering"
    assert said[2] == "tiny  6 layers"
    assert said[3].split() == ["held", "by", "113210"]
    assert [line.split()[1] for line in said[4:7]] == ["███···", "··██··", "··███·"]
    assert "this one" in said[4]
    assert said[7] == "  nobody has loaded layers 5:6"


def test_what_is_missing_is_red_and_what_is_loaded_elsewhere_is_not():
    seen = swarm(record(1, (Span(0, 3),)), record(2, (Span(3, 5),), state="fetching"))
    (bar,) = [line for line in screen(shown(seen)) if "held by" in line.plain]
    red = [bar.plain[span.start : span.end] for span in bar.spans if "red" in str(span.style)]
    assert red == ["0", "0", "0"]
    assert "░░" in "".join(lines(seen))
    whole = lines(swarm(record(1, (Span(0, 6),))))
    assert whole[-1] == "  every layer is held: ready to answer"
    assert not any("held by" in line for line in whole)


def test_links_are_told_both_ways_in_ms_and_the_slowest_first():
    ends = ((1, 2, 0.001, 110e6), (2, 1, 0.0014, 90e6), (1, 3, 0.012, 5e6))
    links = tuple(Link(peer_id(a), peer_id(b), late, rate) for a, b, late, rate in ends)
    seen = swarm(record(1, (Span(0, 6),)), record(2), record(3), links=links)
    slow, quick = lines(seen)[-2:]
    assert "→" in slow
    assert "12.0 ms" in slow
    assert "5 MB/s" in slow
    assert "⇄" in quick
    assert "1.0 / 1.4 ms" in quick
    assert "110 / 90 MB/s" in quick
    assert len(lines(seen, 80, 11)) == 11
    links = (*links, Link(peer_id(2), peer_id(3), 0.0001, 1e9))
    whole = lines(swarm(record(1, (Span(0, 6),)), record(2), record(3), links=links))
    fewer = lines(swarm(record(1, (Span(0, 6),)), record(2), record(3), links=links), 80, 12)
    assert len(whole) == len(fewer) + 1
    assert fewer[-2:] == [whole[-3], "  and 2 quicker ones"]


def test_a_swarm_that_is_gone_stays_on_the_screen_with_why():
    said = lines(swarm(record(1, (Span(0, 6),))), problem="nobody answers", tok_s=None)
    assert said[1] == "nobody answers"
    assert any("██████" in line for line in said)
    assert "43.1 tok/s" in lines(swarm(record(1)), tok_s=43.14)[0]


def test_names_stand_beside_ids_where_there_is_room():
    named = replace(record(2), name="laptop-ben")
    assert any("laptop-ben" in line for line in lines(swarm(record(1), named), 80))
    assert not any("laptop" in line for line in lines(swarm(record(1), named), 32))


@given(swarms(LAYERS), st.integers(1, 120), st.integers(1, 40))
def test_nothing_is_wider_or_higher_than_the_screen(seen, width, height):
    made = screen(shown(seen), width, height)
    assert len(made) <= height
    assert all(line.cell_len <= width for line in made)


def test_many_layers_share_signs_and_the_worst_off_behind_one_is_told():
    model = ServedModel("large", MODEL, 80, 128, speaks=True, chats=True, hears_system=True)
    seen = swarm(record(1, (Span(0, 79),)), record(2, (Span(0, 80),)), record(3, (Span(0, 40),)))
    view = swarm_view(seen, peer_id(1), [model], 0)
    (bar,) = [one.plain for one in screen(Shown("u", view), 60) if "held by" in one.plain]
    digits = bar.split()[-1]
    assert len(digits) < 60
    assert digits == "3" * digits.count("3") + "2" * digits.count("2") + "1"


@pytest.mark.parametrize("damaged", [{}, {"models": 7, "peers": []}, {"models": [{}], "peers": []}])
def test_another_form_is_noticed(damaged):
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        screen(Shown("u", damaged))
