"""A session's ring at its owner: what it hears, what it drops, what bad news turns into."""

from __future__ import annotations

import asyncio

import pytest

from manyhands.domain.messages import Beat, Gap, LinkLost, Ready, Refused, Replayed
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import Swarm
from manyhands.domain.work import Result, Sampling, Want
from manyhands.errors import BadSampling, ContextOverflow, ResourceError
from manyhands.node.ring import Ring, Terms
from manyhands.node.rules import ALL_RULES
from manyhands.node.setback import Setback
from manyhands.plan.cost import Cost
from manyhands.sim.virtual_loop import run_virtual
from node_cases import (
    ANNA,
    BEN,
    MODEL_ID,
    OWNER,
    PROFILE,
    ROUTE,
    SESSION,
    SPEC,
    STRANGER,
    RecordingLinks,
    step,
)

SETTINGS = Settings()
READY = Ready(SESSION, 1, 0, 0, "")


class Empty:
    """A view of a swarm in which nothing happens."""

    swarm = Swarm()

    async def changed(self) -> None:
        await asyncio.Event().wait()


def result(sequence: int = 0, epoch: int = 1) -> Result:
    return Result(SESSION, epoch, sequence, 0, 0)


def refused(code: str, stage: int = 0) -> Refused:
    return Refused(SESSION, 1, stage, code, "why")


def with_ring(test, route=ROUTE) -> None:
    """Run `test(ring, links)` with a ring in its first epoch; links keep what it sends."""

    async def main():
        links = RecordingLinks()
        terms = Terms(SESSION, OWNER, MODEL_ID, SPEC, PROFILE, Sampling(), 0, SPEC.context, Cost())
        clock = asyncio.get_running_loop().time
        ring = Ring(terms, Empty(), clock, SETTINGS, links.send, ALL_RULES)
        ring.begin(route)
        await test(ring, links)

    run_virtual(main)


async def soon(ring: Ring):
    """The next message; a Setback when none comes within a tenth of a second."""
    return await ring.next("message", ring.clock() + 0.1)


def test_steps_are_numbered_within_an_epoch_and_anew_in_the_next():
    async def test(ring, links):
        ring.tokens[:] = [5, 6, 7, 8]
        assert ring.send_step(0, 3, Want()) == 0
        assert ring.send_step(3, 4, Want(), targets=(9,)) == 1
        assert ring.send_step(0, 2, Want(), through=0, sequence=7) == 7
        ring.branch = 3
        ring.begin(ROUTE)
        assert ring.send_step(0, 1, Want()) == 0
        assert [peer for peer, _ in links.sent] == [ANNA] * 4
        first, second, replay, anew = [message for _, message in links.sent]
        assert (first.position, first.token_ids, first.stage, first.through) == (0, (5, 6, 7), 0, 1)
        assert (second.position, second.token_ids, second.next_token_ids) == (3, (8,), (9,))
        assert (replay.sequence, replay.through) == (7, 0)
        assert (anew.epoch, anew.sequence, anew.branch) == (2, 0, 0)

    with_ring(test)


def test_messages_come_in_the_order_in_which_they_arrived():
    async def test(ring, links):
        ring.deliver(ANNA, READY)
        ring.deliver(BEN, result(0))
        ring.deliver(BEN, result(1))
        assert [await soon(ring) for _ in range(3)] == [READY, result(0), result(1)]

    with_ring(test)


def test_a_message_that_comes_while_we_wait_wakes_us():
    async def test(ring, links):
        asyncio.get_running_loop().call_later(0.03, ring.deliver, BEN, result())
        assert await soon(ring) == result()
        assert ring.clock() == pytest.approx(0.03)

    with_ring(test)


DROPPED = {
    "an older epoch's": (BEN, result(epoch=0)),
    "a later epoch's": (BEN, result(epoch=2)),
    "a result from another than the last stage": (ANNA, result()),
    "a stranger's": (STRANGER, READY),
    "one for another stage": (BEN, READY),
    "of a stage that is not": (ANNA, Ready(SESSION, 1, 2, 0, "")),
    "a refusal for another stage": (BEN, refused("resource", 0)),
    "a gap from a stranger": (STRANGER, Gap(SESSION, 1, 0, 3)),
    "a stranger's lost link": (STRANGER, LinkLost(SESSION, 1, STRANGER, BEN)),
    "a lost link of another's": (BEN, LinkLost(SESSION, 1, ANNA, BEN)),
}


@pytest.mark.parametrize(("source", "message"), DROPPED.values(), ids=DROPPED)
def test_what_is_of_another_epoch_or_from_the_wrong_peer_is_dropped(source, message):
    async def test(ring, links):
        ring.deliver(source, message)
        with pytest.raises(Setback, match="no message came in time"):
            await soon(ring)

    with_ring(test)


def test_what_had_arrived_before_a_new_epoch_is_dropped_when_it_is_read():
    async def test(ring, links):
        ring.deliver(BEN, result())
        ring.begin(ROUTE)
        ring.deliver(BEN, result(epoch=2))
        assert await soon(ring) == result(epoch=2)

    with_ring(test)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("context_overflow", ContextOverflow), ("bad_sampling", BadSampling)],
)
def test_a_refusal_for_the_users_own_fault_goes_to_the_user(code, kind):
    async def test(ring, links):
        ring.deliver(ANNA, refused(code))
        with pytest.raises(kind, match="why"):
            await soon(ring)

    with_ring(test)


@pytest.mark.parametrize(
    "code",
    ["resource", "not_served", "checkpoint", "failed", "protocol", "user", "bad_setting", "x"],
)
def test_any_other_refusal_is_a_setback_that_names_the_peer(code):
    async def test(ring, links):
        ring.deliver(BEN, refused(code, stage=1))
        with pytest.raises(Setback, match="why") as raised:
            await soon(ring)
        assert raised.value.lost == {BEN}
        assert raised.value.cause is not None
        assert isinstance(raised.value.cause, ResourceError) is (code == "resource")

    with_ring(test)


def test_a_peer_that_forgot_the_session_is_not_lost_but_opened_anew():
    async def test(ring, links):
        ring.deliver(BEN, refused("session_unknown", stage=1))
        with pytest.raises(Setback) as raised:
            await soon(ring)
        assert raised.value.lost == frozenset()
        assert raised.value.said_by == BEN
        assert ring.reopen == {BEN}

    with_ring(test)


def test_a_gap_is_a_setback_that_blames_nobody_but_says_who_complains():
    async def test(ring, links):
        ring.deliver(BEN, Gap(SESSION, 1, 1, 7))
        with pytest.raises(Setback, match="stage 1 holds only 7 tokens") as raised:
            await soon(ring)
        assert raised.value.lost == raised.value.broken == frozenset()
        assert raised.value.said_by == BEN

    with_ring(test)


@pytest.mark.parametrize("is_quiet", [False, True])
def test_a_lost_link_names_the_link_and_the_peer_only_if_it_is_quiet_too(is_quiet):
    async def test(ring, links):
        await asyncio.sleep(0.5)
        if not is_quiet:
            ring.deliver(BEN, Beat(SESSION, 1, 1, 0, 0.0))
        ring.deliver(ANNA, LinkLost(SESSION, 1, ANNA, BEN))
        with pytest.raises(Setback) as raised:
            await soon(ring)
        assert raised.value.broken == {(ANNA, BEN)}
        assert raised.value.lost == (frozenset({BEN}) if is_quiet else frozenset())

    with_ring(test)


@pytest.mark.parametrize(("down_after_s", "lost"), [(0.0, {BEN}), (0.01, {BEN}), (0.05, set())])
def test_of_a_link_that_is_lost_the_end_that_is_gone_for_us_as_well_is_named(down_after_s, lost):
    async def test(ring, _):
        setback = Setback("a link", broken=frozenset({(ANNA, BEN)}))
        began_s = ring.clock()
        asyncio.get_running_loop().call_later(down_after_s, ring.link_lost, BEN, "closed")
        asyncio.get_running_loop().call_later(0.005, ring.deliver, ANNA, READY)
        await ring.hear_out(setback, 0.02)
        assert setback.lost == lost
        assert ring.clock() - began_s == pytest.approx(min(down_after_s, 0.02), abs=0.001)

    with_ring(test)


@pytest.mark.parametrize(
    "setback", [Setback("a peer", lost=frozenset({ANNA})), Setback("nobody is named")]
)
def test_what_is_known_already_is_not_waited_for(setback):
    async def test(ring, _):
        began_s = ring.clock()
        await ring.hear_out(setback, 0.02)
        assert ring.clock() == began_s

    with_ring(test)


@pytest.mark.parametrize("loss", ["closed", "silent"])
def test_our_own_lost_connection_names_the_peer(loss):
    async def test(ring, links):
        ring.link_lost(STRANGER, loss)  # of no concern here
        ring.link_lost(ANNA, loss)
        with pytest.raises(Setback, match=loss) as raised:
            await soon(ring)
        assert raised.value.lost == {ANNA}
        assert ring.reopen == ({ANNA} if loss == "closed" else set())

    with_ring(test)


def test_losses_from_before_an_epoch_are_no_setback_in_it():
    async def test(ring, links):
        for _ in range(20):  # the owner's own network was away while nobody spoke
            ring.link_lost(ANNA, "silent")
        with pytest.raises(Setback):
            await soon(ring)
        ring.begin(ROUTE)
        ring.deliver(ANNA, Ready(SESSION, 2, 0, 0, ""))
        assert await soon(ring) == Ready(SESSION, 2, 0, 0, "")

    with_ring(test)


def test_losses_that_time_may_have_healed_count_no_more_when_the_user_speaks_again():
    async def test(ring, links):
        ring.link_lost(ANNA, "silent")
        ring.deliver(ANNA, LinkLost(SESSION, 1, ANNA, BEN))
        ring.deliver(BEN, result())
        ring.resume()
        assert await soon(ring) == result()
        with pytest.raises(Setback, match="no message came in time"):
            await soon(ring)

    with_ring(test)


def test_a_connection_that_was_closed_while_the_user_thought_still_counts():
    async def test(ring, links):
        ring.link_lost(BEN, "closed")
        ring.deliver(ANNA, Gap(SESSION, 1, 0, 3))
        ring.resume()
        with pytest.raises(Setback, match="closed") as raised:
            await soon(ring)
        assert raised.value.lost == {BEN}
        with pytest.raises(Setback, match="holds only 3"):
            await soon(ring)

    with_ring(test)


async def wait_with_beats(
    ring: Ring,
    *beating: int,
    seconds: float = 60.0,
    running_s: float = 0.0,
    is_working: bool = False,
    until: tuple[float, ...] = (),
):
    """Wait for a message while some stages beat; those at work finish a step a beat."""
    peers = [stage.peer for stage in ring.route.stages]

    async def beat() -> None:
        finished = 0
        while True:
            await asyncio.sleep(SETTINGS.beat_every_s)
            finished += is_working
            for stage in beating:
                ring.deliver(peers[stage], Beat(SESSION, 1, stage, finished, running_s))

    async with asyncio.TaskGroup() as tasks:
        beats = tasks.create_task(beat())
        try:
            async with asyncio.timeout(seconds):
                return await ring.next("result", *until)
        except Setback as setback:
            return setback
        finally:
            beats.cancel()


@pytest.mark.parametrize("work", [{"is_working": True}, {"running_s": 1.0}], ids=str)
def test_while_somebody_is_at_work_we_wait_until_the_end(work):
    async def test(ring, links):
        setback = await wait_with_beats(ring, 0, 1, seconds=1e3, until=(60.0,), **work)
        assert "no result came in time" in str(setback)
        assert setback.lost == frozenset()
        assert ring.clock() == pytest.approx(60.0)

    with_ring(test)


def test_while_all_stages_beat_and_nobody_is_at_work_we_wait_until_it_counts_as_stuck():
    async def test(ring, links):
        for least_s in (SETTINGS.stuck_after_s, 2 * SETTINGS.stuck_after_s):  # once it was doubted
            ring.liveness.resume()
            began_s = ring.clock()
            setback = await wait_with_beats(ring, 0, 1, seconds=1000.0)
            assert "no result came in time" in str(setback)
            assert setback.lost == frozenset()
            assert least_s < ring.clock() - began_s < least_s + 2.0

    with_ring(test)


def test_a_stage_that_falls_silent_is_a_setback_that_names_it():
    async def test(ring, links):
        setback = await wait_with_beats(ring, 0)
        assert "is silent" in str(setback)
        assert setback.lost == {BEN}
        assert ring.clock() < 3.0

    with_ring(test)


def test_a_stage_that_is_stuck_in_one_step_is_a_setback_that_names_it():
    async def test(ring, links):
        setback = await wait_with_beats(ring, 0, 1, running_s=31.0)
        assert "computes one step" in str(setback)
        assert setback.lost == {ANNA}
        assert ring.liveness.stuck_s() == 2 * SETTINGS.stuck_after_s  # it may only be slow

    with_ring(test)


def test_beats_in_anothers_name_keep_nobody_alive():
    async def test(ring, links):
        ring.deliver(BEN, Beat(SESSION, 1, 1, 0, 0.0))
        ring.deliver(BEN, Beat(SESSION, 1, 9, 0, 0.0))  # nobody stands there
        asyncio.get_running_loop().call_later(
            0.5, ring.deliver, STRANGER, Beat(SESSION, 1, 1, 0, 0.0)
        )
        asyncio.get_running_loop().call_later(0.6, ring.deliver, ANNA, Beat(SESSION, 1, 1, 0, 0.0))
        setback = await wait_with_beats(ring, 0)
        assert setback.lost == {BEN}
        assert ring.clock() < 1.3

    with_ring(test)


def test_answers_of_a_stage_count_as_signs_of_life():
    async def test(ring, links):
        for number in range(8):
            await asyncio.sleep(0.4)
            ring.deliver(ANNA, Beat(SESSION, 1, 0, 0, 0.0))
            answer = Replayed(SESSION, 1, 1, number)
            ring.deliver(BEN, answer)
            assert await soon(ring) == answer
        assert not ring.liveness.is_quiet(1)

    with_ring(test)


def test_a_step_is_a_step_of_the_session():
    async def test(ring, links):
        ring.tokens[:] = [1, 2]
        ring.send_step(0, 2, Want(rows="all"))
        ((target, sent),) = links.sent
        expected = step(0, 0, [1, 2], deadline_s=SETTINGS.stuck_after_s)
        assert (target, sent) == (ANNA, expected)

    with_ring(test)
