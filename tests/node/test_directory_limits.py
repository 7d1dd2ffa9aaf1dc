"""Directories among too many records, unsendable ones, made-up peers and wrong clocks."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from directory_town import (
    CHAIN,
    KEYS,
    NAMES,
    SETTINGS,
    in_town,
    live,
    made_up,
    peers_of,
    signed,
    tell,
)
from manyhands.domain.messages import Announce
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from manyhands.node import directory
from manyhands.trust.signature import sign_record
from node_cases import DEVICE, MODEL_ID


def test_more_records_than_a_frame_holds_are_told_in_pieces():
    async def test(town):
        records = made_up(1500, address="x" * 200)
        tell(town, records)
        town.sent.clear()
        town[0].connected(NAMES[1])
        pieces = [announce.records for source, _, announce in town.sent if source == 0]
        assert max(map(len, pieces)) == directory.PIECE_RECORDS
        assert peers_of(one for piece in pieces for one in piece) >= peers_of(records)
        await live(town, 2.5 * SETTINGS.record_every_s, numbers=(0,))

    in_town(2, CHAIN[:1], test)


def test_a_record_too_large_to_be_sent_holds_back_no_other_and_ends_nothing(caplog):
    async def test(town):
        tell(town, made_up(5))
        town.holdings[0] = (Holding(MODEL_ID, Span(0, 2), "ready"),) * 12000
        town[0].announce()
        town.sent.clear()
        town[0].connected(NAMES[1])
        told = peers_of(one for _, _, announce in town.sent for one in announce.records)
        assert told == {NAMES[1], *peers_of(made_up(5))}
        town[0].join(NAMES[1], "memory:there")
        await live(town, 2.5 * SETTINGS.record_every_s, numbers=(0,))
        town[0].receive(NAMES[1], Announce((signed(1, 9**9),)))
        warnings = [one.getMessage() for one in caplog.records]
        assert len(warnings) == 1
        assert NAMES[0][:8] in warnings[0]

    in_town(2, CHAIN[:1], test)


def test_a_record_out_of_its_bounds_ends_nothing_either():
    async def test(town):
        town.room_bytes[0] = -(2**80)
        town[0].announce()
        town[0].connected(NAMES[1])
        await live(town, 2.5 * SETTINGS.record_every_s, numbers=(0,))

    in_town(2, CHAIN[:1], test)


@pytest.mark.parametrize("text", ["x" * 201, "\x1b[2J", "a\nb", "tcp:b\u00fccher:1"])
def test_a_record_whose_texts_cannot_be_told_to_others_is_not_believed(text):
    async def test(town):
        device = replace(DEVICE, kind=text)
        for number, changes in enumerate(
            ({"address": text}, {"kernels": text}, {"device": device})
        ):
            town[0].receive(NAMES[1], Announce((signed(1, 9**8 + number, **changes),)))
            assert town[0].swarm.peers[NAMES[1]].sequence < 9**8
        town[0].receive(NAMES[1], Announce((signed(1, 9**9),)))
        assert town[0].swarm.peers[NAMES[1]].sequence == 9**9

    in_town(2, CHAIN[:1], test)


def test_of_too_many_records_those_that_expire_soonest_go_but_no_neighbours(monkeypatch):
    monkeypatch.setattr(directory, "KEPT_RECORDS", 8)

    async def test(town):
        town[0].receive(NAMES[1], Announce((signed(1, 9**9, life_s=0.5),)))
        records = made_up(20)
        town.sent.clear()
        tell(town, records, piece=7)
        kept = peers_of(records[-6:])
        assert set(town[0].swarm.peers) == {NAMES[0], NAMES[1], *kept}
        assert len(town[0]._addresses) <= 8
        tell(town, records[:3])  # those that went expire soonest: they push nobody out
        assert set(town[0].swarm.peers) == {NAMES[0], NAMES[1], *kept}

    in_town(2, CHAIN[:1], test)


def test_what_there_was_no_room_for_is_not_passed_on(monkeypatch):
    monkeypatch.setattr(directory, "KEPT_RECORDS", 8)

    async def test(town):
        town.sent.clear()
        records = made_up(20)
        town[1].receive(NAMES[2], Announce(tuple(records)))
        [(_, target, announce)] = town.sent
        assert target == 0
        assert peers_of(announce.records) < peers_of(records)

    in_town(3, CHAIN[:2], test)


def test_invented_peers_that_expire_are_remembered_in_bounds_too(monkeypatch):
    monkeypatch.setattr(directory, "KEPT_RECORDS", 8)

    async def test(town):
        town[0].join(NAMES[3], "memory:first")
        for first in range(0, 24, 6):
            tell(town, made_up(24, life_s=1.0)[first : first + 6])
            await live(town, 1.5 * SETTINGS.record_every_s, numbers=(0, 1))
        assert town.known(0) == [0, 1]
        assert len(town[0]._addresses) <= 8 + 1
        assert len(town[0]._gone) <= 8
        assert town[0].address_of(NAMES[3]) == "memory:first"

    in_town(2, CHAIN[:1], test)


def test_absent_peers_are_looked_for_in_turns_and_told_one_record(monkeypatch):
    monkeypatch.setattr(directory, "LOOKED_FOR", 4)

    async def test(town):
        tell(town, made_up(12, life_s=50.0))
        town.strangers.clear()
        await live(town, 1.5 * SETTINGS.record_every_s, numbers=(0,))
        assert len(town.strangers) == 4
        await live(town, 2.5 * SETTINGS.record_every_s, numbers=(0,))
        assert set(town.strangers) == peers_of(made_up(12))

    in_town(2, CHAIN[:1], test)


@pytest.mark.parametrize(
    ("life_s", "says"), [(-10.0, "40 s behind"), (0.0, "30 s behind"), (100.0, "70 s ahead")]
)
def test_a_clock_that_is_wrong_is_told_once_and_its_peer_stays_refused(caplog, life_s, says):
    async def test(town):
        for sequence in range(5, 9):
            town[0].receive(NAMES[3], Announce((signed(3, sequence, life_s=life_s),)))
        assert town.known(0) == [0, 1]
        [warning] = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert NAMES[3][:8] in warning.getMessage()
        assert says in warning.getMessage()
        assert "set the clocks" in warning.getMessage()
        town[0].receive(NAMES[2], Announce((signed(2, 5, life_s=life_s),)))
        assert len(caplog.records) == 2  # of each peer

    in_town(2, CHAIN[:1], test)


def test_what_is_left_of_a_peer_that_went_and_forgeries_say_nothing_of_clocks(caplog):
    async def test(town):
        town[0].receive(NAMES[1], Announce((signed(3, 5, life_s=-3.0),)))
        forged = replace(signed(3, 5, life_s=100.0), signature="00" * 64)
        town[0].receive(NAMES[3], Announce((forged,)))
        assert town.known(0) == [0, 1]
        assert caplog.records == []

    in_town(2, CHAIN[:1], test)


def test_invented_peers_with_wrong_clocks_cannot_fill_the_log(caplog, monkeypatch):
    monkeypatch.setattr(directory, "KEPT_RECORDS", 8)

    async def test(town):
        tell(town, made_up(20, life_s=100.0))
        assert len(caplog.records) == 8

    in_town(2, CHAIN[:1], test)


def test_another_machine_that_speaks_with_our_key_is_told_of_once(caplog):
    async def test(town):
        own = town.record(0, of=0)
        for sequence, address in (
            (own.sequence - 1, "memory:before"),  # our own former life
            (own.sequence + 5, own.address),  # our clock was set back
            (own.sequence + 5, "memory:copy"),
            (own.sequence + 9, "memory:copy"),
        ):
            copied = replace(own, sequence=sequence, address=address)
            town[0].receive(NAMES[1], Announce((sign_record(KEYS[0], copied),)))
        forged = replace(signed(0, own.sequence + 9), signature="00" * 64)
        town[0].receive(NAMES[1], Announce((forged,)))
        assert town.record(0, of=0) == own
        [warning] = [one.getMessage() for one in caplog.records]
        assert "this peer's key is in use at memory:copy as well" in warning

    in_town(2, CHAIN[:1], test)
