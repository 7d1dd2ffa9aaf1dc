"""Asking at a door without an invite: one code on two screens, and none for who stands between."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from manyhands.domain.admission import Admission, Ask, Challenge, Reveal
from manyhands.domain.settings import Settings
from manyhands.errors import DeadlinePassed, PeerError, PeerLied, PeerLost, VersionMismatch
from manyhands.net.door import Door
from manyhands.net.knocking import ask, look
from manyhands.net.tls import Contexts
from manyhands.node.approvals import MOST_ASKING
from manyhands.node.founder import Founder
from manyhands.node.newcomer import MOST_NAME, Newcomer, device_name
from manyhands.trust.certificate import Membership, check
from manyhands.trust.short_code import short_code
from tls_cases import NOW_S, OTHER_SWARM, SWARM
from transport_conformance import ANNA, BEN, CLEO, KEYS

ANNAS, BENS, CLEOS = KEYS
DEADLINE_S = 20.0
HOST = "127.0.0.1"


class Screens:
    """Anna's founder and its door, and what the joiner's screen shows."""

    def __init__(self, founder: Founder, port: int) -> None:
        self.founder, self.port, self.shown = founder, port, []

    async def asks(self, keys=BENS, port=None, wait_s=DEADLINE_S, **changes) -> Admission:
        newcomer = changes.get("newcomer") or Newcomer(
            keys,
            changes.get("name", "laptop-ben"),
            changes.get("nonce", b"n" * 32),
            self.shown.append,
        )
        admission, _ = await ask(
            HOST, port or self.port, newcomer, deadline_s=DEADLINE_S, wait_s=wait_s
        )
        return admission

    async def waiting(self):
        """The one that Anna's screen asks about."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.founder.approvals.waiting():
                await self.founder.approvals.changed()
        return self.founder.approvals.waiting()[0]


@contextlib.asynccontextmanager
async def founded(authority=SWARM, keys=ANNAS, reception=None, **settings):
    founder = Founder(authority, keys, Settings(**settings), lambda: NOW_S, lambda: 77)
    founder.name = "anna's"
    contexts = Contexts(founder.membership())
    door = Door(contexts, HOST, 0, founder.decide, DEADLINE_S, reception=reception or founder)
    try:
        yield Screens(founder, await door.open())
    finally:
        await door.close()


async def test_both_screens_show_one_code_and_a_yes_makes_a_member():
    async with founded() as anna, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(anna.asks())
        waiting = await anna.waiting()
        assert (waiting.peer, waiting.name) == (BEN, "laptop-ben")
        assert anna.shown == [waiting.code]
        anna.founder.approvals.answer(waiting.code, is_welcome=True)
        admission = await asking
        shown = Membership(BENS, admission.certificate.encode(), admission.authority.encode())
        assert check(shown.certificate_der, SWARM.swarm, NOW_S) == BEN
        assert admission.now_s == NOW_S


async def test_every_asking_has_another_code():
    async with founded() as anna:
        for _ in range(3):
            async with asyncio.TaskGroup() as tasks:
                asking = tasks.create_task(anna.asks())
                anna.founder.approvals.answer((await anna.waiting()).code, is_welcome=True)
                await asking
        assert len(set(anna.shown)) == 3  # though the newcomer's number was the same


async def test_a_no_is_said_and_admits_nobody():
    async with founded() as anna, asyncio.TaskGroup() as tasks:

        async def asks():
            with pytest.raises(PeerError, match="not let in: whoever runs the swarm said no"):
                await anna.asks()

        tasks.create_task(asks())
        anna.founder.approvals.answer((await anna.waiting()).code, is_welcome=False)


async def test_silence_ends_by_the_swarms_deadline():
    async with founded(approval_wait_s=0.2) as anna:
        with pytest.raises(DeadlinePassed, match="nobody approved this device within 0 s"):
            await anna.asks()


async def test_who_leaves_is_asked_about_no_more():
    async with founded() as anna, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(anna.asks())
        await anna.waiting()
        asking.cancel()
        async with asyncio.timeout(DEADLINE_S):
            while anna.founder.approvals.waiting():
                await anna.founder.approvals.changed()


async def test_a_door_that_closes_meanwhile_is_a_lost_peer():
    async with asyncio.TaskGroup() as tasks:

        async def asks(anna):
            with pytest.raises(PeerLost, match="went away before anybody approved"):
                await anna.asks()

        async with founded() as anna:
            asking = tasks.create_task(asks(anna))
            await anna.waiting()
        await asking


class Between:
    """Eve, who stands between Ben and Anna's door, and relays what she can.

    She cannot show Anna's key, so Ben talks to hers; she cannot sign as Ben to Anna with what Ben
    signed for her, so Anna is asked under hers.
    """

    def __init__(self, screens: Screens) -> None:
        self._anna, self.codes = screens, []

    def about(self):
        raise NotImplementedError

    def challenge(self, asked: Ask) -> Challenge:
        return Challenge("ee" * 32)

    async def approved(self, asked: Ask, challenge: Challenge, reveal: Reveal) -> Admission:
        # she knows Ben's number now, and asks Anna with the very same one and Ben's name
        newcomer = Newcomer(CLEOS, asked.name, bytes.fromhex(reveal.nonce), self.codes.append)
        return await self._anna.asks(newcomer=newcomer)


async def test_who_stands_between_is_seen_by_two_codes_that_differ():
    async with founded() as anna:
        between = Between(anna)
        async with (
            founded(OTHER_SWARM, CLEOS, reception=between) as eve,
            asyncio.TaskGroup() as tasks,
        ):

            async def bens():
                with pytest.raises(PeerError, match="said no"):
                    await eve.asks()

            tasks.create_task(bens())
            waiting = await anna.waiting()
            assert waiting.name == "laptop-ben"
            assert between.codes == [waiting.code]
            assert eve.shown != [waiting.code]  # Ben's screen and Anna's
            anna.founder.approvals.answer(waiting.code, is_welcome=False)


async def test_what_was_said_to_one_door_asks_at_no_other():
    async with founded() as anna:
        stolen = Newcomer(BENS, "laptop-ben", b"n" * 32, lambda _: None).ask(CLEO)

        class Relayed(Newcomer):
            def ask(self, door):
                return stolen

        newcomer = Relayed(BENS, "laptop-ben", b"n" * 32, lambda _: None)
        with pytest.raises(PeerError, match="does not hold the key it names"):
            await anna.asks(newcomer=newcomer)


async def test_a_number_that_changed_after_the_doors_was_heard_is_refused():
    async with founded() as anna:

        class Fickle(Newcomer):
            def reveal(self, challenge):
                return Reveal("ff" * 32)

        with pytest.raises(PeerError, match="has changed its number"):
            await anna.asks(newcomer=Fickle(BENS, "ben", b"n" * 32, lambda _: None))
        assert anna.founder.approvals.waiting() == ()


def test_without_the_commitment_one_between_could_choose_the_code():
    """Knowing the door's number before she says hers, she would only have to search for a while."""
    bens_screen = short_code(CLEO, BEN, b"n" * 32, b"\xee" * 32)
    wanted = bens_screen[:3]  # a thousandth of all codes, to be quick
    numbers = (number.to_bytes(32) for number in range(20_000))
    assert any(short_code(ANNA, CLEO, one, b"a" * 32)[:3] == wanted for one in numbers)


async def test_codes_cannot_be_tried_by_asking_again_and_again():
    async with founded() as anna:
        for _ in range(MOST_ASKING):
            newcomer = Newcomer(CLEOS, "eve", b"e" * 32, lambda _: None)
            newcomer.reveal = lambda challenge: (_ for _ in ()).throw(PeerLied("leaves"))
            with pytest.raises(PeerLied):  # she has heard the door's number, and dislikes it
                await anna.asks(newcomer=newcomer)
        with pytest.raises(PeerError, match="asked to be let in lately"):
            await anna.asks()


async def test_another_version_is_told_what_to_do_before_a_person_is_asked():
    async with founded() as anna:

        class Newer(Newcomer):
            def ask(self, door):
                return replace(super().ask(door), protocol=2)

        with pytest.raises(VersionMismatch, match="install the same version"):
            await anna.asks(newcomer=Newer(BENS, "ben", b"n" * 32, lambda _: None))


async def test_a_door_that_admits_before_codes_are_compared_is_a_liar():
    async with founded() as anna:

        class Eager:
            def challenge(self, asked):
                return anna.founder._admission(asked.peer, None)

        async with founded(reception=Eager()) as eager:
            with pytest.raises(PeerLied, match="before anybody could compare codes"):
                await eager.asks()


async def test_anybody_may_look_whose_door_it_is():
    async with founded() as anna:
        about, door = await look(HOST, anna.port, deadline_s=DEADLINE_S)
        assert (about.swarm, about.name, about.now_s) == (SWARM.swarm, "anna's", NOW_S)
        assert door == ANNA


def test_a_devices_name_is_short_and_shows_on_every_terminal():
    assert device_name("laptop-ben") == "laptop-ben"
    assert device_name("b\u00fccher\x1b[2J") == "b?cher?[2J"
    assert len(device_name("x" * 500)) == MOST_NAME
    assert device_name("  ") == "a device"
