"""Directories that know only their neighbours: what spreads, what is believed, what ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from directory_town import CHAIN, NAMES, SETTINGS, Town, in_town, live, now_s, signed
from manyhands.domain.messages import Announce
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from node_cases import MODEL_ID


def test_records_spread_over_a_chain_of_neighbours():
    async def test(town):
        for number in range(4):
            assert town.known(number) == [0, 1, 2, 3]
        assert town[0].address_of(NAMES[3]) == f"memory:{NAMES[3]}"

    in_town(4, CHAIN, test)


def test_a_change_is_told_to_everybody_and_the_newest_wins():
    async def test(town):
        holding = Holding(MODEL_ID, Span(0, 2), "ready")
        town.holdings[3] = (holding,)
        before = town.record(0, 3).sequence
        town[3].announce()
        await asyncio.sleep(1)
        for number in range(4):
            assert town.record(number, 3).holdings == (holding,)
        assert town.record(0, 3).sequence > before

    in_town(4, CHAIN, test)


def test_an_older_record_changes_nothing_and_is_not_passed_on():
    async def test(town):
        kept = town.record(1, 0)
        town.sent.clear()
        town[1].receive(NAMES[2], Announce((signed(0, kept.sequence),)))
        town[1].receive(NAMES[2], Announce((signed(0, kept.sequence - 1),)))
        assert town.record(1, 0) is kept
        assert town.sent == []

    in_town(3, CHAIN[:2], test)


def test_news_goes_to_every_neighbour_but_the_one_it_came_from():
    async def test(town):
        town.sent.clear()
        town[1].receive(NAMES[2], Announce((signed(3, 5),)))
        assert [(source, target) for source, target, _ in town.sent] == [(1, 0)]

    in_town(3, CHAIN[:2], test)


FORGERIES = {
    "changed after signing": lambda good: replace(good, record=replace(good.record, room_bytes=9)),
    "in another's name": lambda good: replace(good, record=replace(good.record, peer=NAMES[2])),
    "signed by nobody": lambda good: replace(good, signature="00" * 64),
    "no signature at all": lambda good: replace(good, signature=""),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_record_is_refused_and_those_beside_it_are_not(forge):
    async def test(town):
        good = signed(3, 9**9)
        town.sent.clear()
        town[0].receive(NAMES[1], Announce((forge(good),)))
        assert town.known(0) == [0, 1]
        assert town.sent == []
        town[0].receive(NAMES[1], Announce((forge(good), good)))
        assert town.known(0) == [0, 1, 3]

    in_town(2, CHAIN[:1], test)


def test_nobody_else_speaks_for_us():
    async def test(town):
        mine = town.record(0, 0)
        town[0].receive(NAMES[1], Announce((signed(0, 9**9),)))
        assert town.record(0, 0) is mine

    in_town(2, CHAIN[:1], test)


def test_a_record_that_is_expired_on_arrival_is_refused():
    async def test(town):
        town[0].receive(NAMES[1], Announce((signed(3, 5, life_s=0.0),)))
        assert town.known(0) == [0, 1]

    in_town(2, CHAIN[:1], test)


def test_who_is_not_heard_of_any_more_is_dropped_and_the_others_stay():
    async def test(town):
        town.deaf.add(3)
        await live(town, SETTINGS.record_life_s - 3 * SETTINGS.record_every_s)
        assert town.known(0) == [0, 1, 2, 3]
        await live(town, 5 * SETTINGS.record_every_s)
        assert town.known(0) == [0, 1, 2]
        assert town.known(3) == [3]  # it keeps itself
        town.deaf.clear()
        await live(town, 2 * SETTINGS.record_every_s)
        assert town.known(0) == town.known(3) == [0, 1, 2, 3]

    in_town(4, CHAIN, test)


def test_hearsay_about_a_peer_that_was_seen_leaving_is_refused_until_it_speaks_again():
    async def test(town):
        old = town[1]._records[NAMES[2]]
        town[1].lost(NAMES[2])
        assert town.known(1) == [0, 1]
        town[1].receive(NAMES[0], Announce((old,)))
        assert town.known(1) == [0, 1]
        town[1].receive(NAMES[2], Announce((old,)))  # from itself the same record is believed
        assert town.known(1) == [0, 1, 2]
        town[1].lost(NAMES[2])
        town[1].receive(NAMES[0], Announce((signed(2, old.record.sequence + 1),)))
        assert town.known(1) == [0, 1, 2]  # newer than its leaving: it lives, somewhere

    in_town(3, CHAIN[:2], test)


def test_a_lost_peer_can_still_be_dialled():
    async def test(town):
        town[0].lost(NAMES[1])
        assert town[0].address_of(NAMES[1]) == f"memory:{NAMES[1]}"
        town[0].lost(NAMES[3])  # of one never heard of there is nothing to lose
        assert town[0].address_of(NAMES[3]) is None

    in_town(2, CHAIN[:1], test)


def test_joining_tells_a_first_contact_and_a_new_neighbour_is_told_everything():
    async def test(town):
        town.sent.clear()
        town[0].join(NAMES[1], "memory:there")
        town[1].connected(NAMES[0])
        assert [(source, target) for source, target, _ in town.sent] == [(0, 1), (1, 0)]
        assert town[0].address_of(NAMES[1]) == "memory:there"
        told = {record.record.peer for _, _, announce in town.sent for record in announce.records}
        assert told == set(NAMES[:2])

    in_town(2, (), test)


def test_somebody_known_who_is_no_neighbour_any_more_is_looked_for():
    async def test(town):
        town.pairs.clear()
        town.sent.clear()
        await live(town, 1.5 * SETTINGS.record_every_s, numbers=(0,))
        assert [(source, target) for source, target, _ in town.sent] == [(0, 1)]

    in_town(2, CHAIN[:1], test)


def test_changed_wakes_at_the_next_change_and_not_before():
    async def test(town):
        woken = []

        async def waiter():
            await town[0].changed()
            woken.append(now_s())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(waiter())
            tasks.create_task(waiter())
            await asyncio.sleep(1)
            town[0].receive(NAMES[1], Announce(()))  # no news
            town[0].receive(NAMES[1], Announce((signed(1, 0),)))  # old news
            await asyncio.sleep(1)
            assert woken == []
            town[0].lost(NAMES[1])
            at_s = now_s()
        assert woken == [at_s, at_s]
        assert NAMES[1] not in town[0].swarm.peers

    in_town(2, CHAIN[:1], test)


def test_a_peer_whose_link_broke_is_called_again_at_once():
    async def test(town):
        town.sent.clear()
        town[0].lost(NAMES[1])
        town[0].lost(NAMES[1])  # the other lane's connection ends as well
        assert [(source, target) for source, target, _ in town.sent] == [(0, 1)]

    in_town(2, CHAIN[:1], test)


def test_the_records_of_a_new_life_are_newer_than_those_of_the_former():
    async def test(town):
        for _ in range(50):
            town[0].announce()
        await asyncio.sleep(1)
        again = Town(2, ())
        again[0].start("memory:new")
        assert again.record(0, 0).sequence > town.record(1, 0).sequence

    in_town(2, CHAIN[:1], test)


def test_a_record_that_would_live_longer_than_records_do_is_refused():
    async def test(town):
        for_ever = signed(3, 5, life_s=3 * SETTINGS.record_life_s)
        town[0].receive(NAMES[1], Announce((for_ever,)))
        assert NAMES[3] not in town[0].swarm.peers
        town[0].receive(NAMES[1], Announce((signed(3, 5),)))
        assert NAMES[3] in town[0].swarm.peers

    in_town(2, CHAIN[:1], test)


def test_a_peer_that_is_long_gone_is_not_looked_for_any_more():
    async def test(town):
        town[0].receive(NAMES[1], Announce((signed(3, 5),)))
        assert town[0].address_of(NAMES[3])
        await live(town, 12 * SETTINGS.record_life_s, (0, 1))
        assert town[0].address_of(NAMES[3]) is None
        assert town[0].address_of(NAMES[1])

    in_town(2, CHAIN[:1], test)
