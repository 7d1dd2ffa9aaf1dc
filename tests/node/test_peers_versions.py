"""What the user reads when peers of two versions meet: once a peer, and what to do."""

import logging

from manyhands.domain.messages import Goodbye, Hello
from manyhands.wire.schema import decode, encode
from peers_house import beat, in_house
from transport_conformance import ANNA, BEN, CLEO, Answering, drain

NEWER = Hello(CLEO, 7, 9, "steps", 4, "manyhands")


def warnings_in(caplog) -> list[str]:
    return [told.getMessage() for told in caplog.records if told.levelno >= logging.WARNING]


def test_the_user_of_the_older_version_reads_once_what_to_do_whoever_dials(caplog):
    async def test(house):
        house.names = (ANNA, BEN, CLEO)
        modern = await Answering(house.network.transport(CLEO)).start()
        for _ in range(3):
            house[ANNA].send(CLEO, beat(1))
            connection = await modern.accepted()
            connection.send(encode(NEWER))
            await drain(connection)
            connection = await modern.transport.dial(f"memory:{BEN}", BEN)
            connection.send(encode(NEWER))
            said = [decode(await connection.receive()) for _ in range(2)]
            # who dialled is told as well
            assert [type(one) for one in said] == [Hello, Goodbye]
            assert said[1].code == "version"
            await drain(connection)

    in_house(test)
    told = warnings_in(caplog)
    assert len(told) == 2  # Anna's and Ben's users, once each
    for line in told:
        assert CLEO[:8] in line
        assert "update the older of the two" in line


def test_a_goodbye_that_says_why_is_told_to_the_user(caplog):
    async def test(house):
        house.names = (ANNA, BEN, CLEO)
        modern = await Answering(house.network.transport(CLEO)).start()
        for _ in range(2):
            house[ANNA].send(CLEO, beat(1))
            connection = await modern.accepted()
            connection.send(encode(Goodbye("version", "update manyhands")))
            await drain(connection)

    in_house(test)
    assert [line.endswith("update manyhands") for line in warnings_in(caplog)] == [True]


def test_peers_that_come_and_go_are_nothing_to_warn_of(caplog):
    async def test(house):
        house[ANNA].send(BEN, beat(0))
        house[ANNA].send(CLEO, beat(0))
        await house.heard[BEN].until(lambda heard: heard.messages)
        house.kill(BEN)
        await house.heard[ANNA].until(lambda heard: len(heard.lost) >= 2)
        await house[ANNA].close()

    in_house(test)
    assert warnings_in(caplog) == []
