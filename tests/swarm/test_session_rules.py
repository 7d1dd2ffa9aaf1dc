"""Each session rule, on and off: with it the text is right and quick, without it a test notices."""

import asyncio
from dataclasses import replace

import pytest

from hash_swarm import MODEL, must_be_whole, with_profile
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.domain.work import Result, Sampling, Step, Want
from manyhands.errors import NoStandIn, PeerError
from manyhands.net.memory import Path
from manyhands.node.generate import speak
from manyhands.node.model import Model
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.scenario import Fault, Scenario, play, truth
from manyhands.sim.schedule import SETTINGS
from manyhands.sim.virtual_loop import run_virtual
from manyhands.wire.frame import FrameReader
from manyhands.wire.schema import decode

CUTS = even_cuts(8, 3)


def without(**off: bool) -> Rules:
    return replace(ALL_RULES, **off)


def text(scenario: Scenario) -> tuple[int, ...]:
    return truth(scenario, MODEL)


class Line:
    """An owner (0), three stages (1-3) and a spare (4); a tap that reads every message."""

    def __init__(self, rules: Rules, settings: Settings = SETTINGS, spares: int = 1) -> None:
        members = [Member(can_load=False)]
        members += [Member((cut,), can_load=False) for cut in CUTS] + [Member()] * spares
        self.fleet = Fleet(
            1, MODEL, members, settings=settings, rules=rules, path=Path(latency_s=0.001)
        )
        self.seen: list[tuple[int, int, object]] = []
        self.fleet.taps.append(self._tap)

    def _tap(self, source, target, data) -> None:
        ends = self.fleet.number(source), self.fleet.number(target)
        self.seen += [(*ends, decode(frame)) for frame in FrameReader().feed(data)]

    def resend(self, step: Step, source: int, target: int) -> None:
        self.fleet.nodes[source].peers.send(self.fleet.peer(target), step)

    def last_step(self, source: int, target: int) -> Step:
        return [m for a, b, m in self.seen if (a, b) == (source, target) and type(m) is Step][-1]

    async def speak(self, tokens: int = 60, at=None, then=None, sampling: Sampling | None = None):
        """(text, session, longest pause); `then(line)` is called once `at` tokens are spoken."""
        loop = asyncio.get_running_loop()
        owner = self.fleet.nodes[0].owner
        session = await owner.open(MODEL, sampling or Sampling(), 4)
        spoken, pause_s, said_s = [], 0.0, loop.time()
        try:
            async for token in speak(session, (1, 2, 3, 4), tokens):
                spoken.append(token.id)
                pause_s, said_s = max(pause_s, loop.time() - said_s), loop.time()
                if len(spoken) == at:
                    then(self)
        except PeerError:
            pause_s = max(pause_s, loop.time() - said_s)
        return tuple(spoken), session, pause_s


def play_line(rules: Rules, at=None, then=None, tokens: int = 60, **more):
    """(text, epochs after the first, longest pause)"""

    async def main():
        line = Line(rules, **more)
        async with line.fleet:
            spoken, session, pause_s = await line.speak(tokens, at, then)
            return spoken, session.ring.epoch - 1, pause_s

    return run_virtual(main)


# Rule 1: order


def send_an_old_step_again(line: Line) -> None:
    step = line.last_step(1, 2)
    asyncio.get_running_loop().call_later(0.0105, line.resend, step, 1, 2)


def test_a_repeated_step_is_dropped_and_disturbs_nobody() -> None:
    spoken, tries, _ = play_line(ALL_RULES, 30, send_an_old_step_again)
    assert spoken == text(Scenario(0, tokens=60))
    assert tries == 0


def test_without_sequences_a_repeated_step_costs_a_recovery() -> None:
    _, tries, _ = play_line(without(drop_old_sequences=False), 30, send_an_old_step_again)
    assert tries > 0


DRAFTED = Scenario(5, draft_tokens=3, draft_skill=0.5, settings=SETTINGS)


@pytest.mark.parametrize("rule", ["cut_by_position", "cut_journal"])
def test_a_rejected_draft_is_cut_from_memory_and_journal(rule: str) -> None:
    drawn = replace(DRAFTED, faults=(Fault("kill", 1, 60),))
    must_be_whole(drawn, play(drawn, MODEL))
    assert play(drawn, MODEL, without(**{rule: False})).spoken != text(drawn)


# Rule 2: epochs


def kill_the_last(line: Line) -> None:
    """The step under way then is of the old epoch, and reaches the stand-in after it opened."""
    line.fleet.kill(3)


def test_a_step_of_an_older_epoch_is_dropped() -> None:
    spoken, tries, _ = play_line(ALL_RULES, 30, kill_the_last)
    assert spoken == text(Scenario(0, tokens=60))
    assert tries == 1


def test_without_epochs_an_old_step_disturbs_the_new_one() -> None:
    spoken, tries, _ = play_line(without(drop_old_epochs=False), 30, kill_the_last)
    assert tries > 1 or spoken != text(Scenario(0, tokens=60))


def kill_with_a_slow_way_to_the_spare(line: Line) -> None:
    network, fleet = line.fleet.network, line.fleet
    network.set_path(fleet.peer(0), fleet.peer(4), Path(latency_s=0.3))
    fleet.kill(2)


def test_replay_waits_until_every_stage_is_ready() -> None:
    spoken, _, pause_s = play_line(ALL_RULES, 30, kill_with_a_slow_way_to_the_spare)
    assert spoken == text(Scenario(0, tokens=60))
    assert pause_s < 3


def test_without_waiting_a_replay_meets_a_closed_door() -> None:
    rules = without(wait_until_ready=False)
    _, _, pause_s = play_line(rules, 30, kill_with_a_slow_way_to_the_spare)
    assert pause_s > 20


# Rule 3: memory that survived is used only if it is of this text


def restart_with_rejected_drafts(rules: Rules):
    """Stage 1, alone able to hold its span, comes back with memory that ends in a draft."""
    drawn = replace(
        DRAFTED,
        draft_skill=0.0,
        spares=0,
        stages_can_load=False,
        faults=(Fault("restart", 1, 60, lasts_s=0.5),),
    )
    return drawn, play(drawn, MODEL, rules)


def test_stale_memory_is_told_by_its_history() -> None:
    must_be_whole(*restart_with_rejected_drafts(ALL_RULES))


def test_without_judging_history_stale_memory_changes_the_text() -> None:
    drawn, ending = restart_with_rejected_drafts(without(judge_history=False))
    assert ending.spoken != text(drawn)


# Rule 4: liveness


def cut_between_stages(line: Line) -> None:
    line.fleet.network.cut(line.fleet.peer(1), line.fleet.peer(2))


def test_a_missing_confirmation_names_the_link() -> None:
    spoken, tries, pause_s = play_line(ALL_RULES, 30, cut_between_stages)
    assert spoken == text(Scenario(0, tokens=60))
    assert (tries, pause_s < 2) == (1, True)


def test_without_confirmations_a_cut_link_costs_half_a_minute() -> None:
    _, _, pause_s = play_line(without(watch_confirmations=False), 30, cut_between_stages)
    assert pause_s > 20


def cut_the_way_home(line: Line) -> None:
    """Results, beats and reports of the last stage go nowhere; it still hears everybody."""
    line.fleet.network.cut(line.fleet.peer(3), line.fleet.peer(0))


def test_a_stage_that_is_heard_no_more_is_lost() -> None:
    spoken, tries, pause_s = play_line(ALL_RULES, 30, cut_the_way_home)
    assert spoken == text(Scenario(0, tokens=60))
    assert (tries, pause_s < 2) == (1, True)


def test_without_beats_silence_is_noticed_late() -> None:
    rules = without(watch_beats=False, watch_confirmations=False)
    _, _, pause_s = play_line(rules, 30, cut_the_way_home)
    assert pause_s > 20


def stop_computing(line: Line) -> None:
    """Stage 2's engine hangs in a step; its loop goes on beating."""
    worker = line.fleet.nodes[2].worker

    async def hang(work, cost_s):
        await asyncio.sleep(1e6)

    worker._stepping._compute.run = hang


def test_a_loop_that_beats_while_its_compute_is_stuck_is_lost() -> None:
    settings = replace(SETTINGS, stuck_after_s=1.0)
    spoken, tries, pause_s = play_line(ALL_RULES, 30, stop_computing, settings=settings)
    assert spoken == text(Scenario(0, tokens=60))
    assert (tries, pause_s < 3) == (1, True)


def left_after_the_owner_died(rules: Rules) -> int:
    async def main() -> int:
        line = Line(rules)
        async with line.fleet:
            await line.speak(10)
            line.fleet.kill(0)
            await asyncio.sleep(SETTINGS.lease_s + 2)
            return sum(len(line.fleet.nodes[n].worker.memories.all()) for n in (1, 2, 3))

    return run_virtual(main)


def test_memory_of_an_owner_that_is_gone_is_freed() -> None:
    assert left_after_the_owner_died(ALL_RULES) == 0


def test_without_leases_it_stays() -> None:
    assert left_after_the_owner_died(without(end_leases=False)) == 3


def test_an_idle_session_of_a_living_owner_is_kept() -> None:
    async def main():
        line = Line(ALL_RULES)
        async with line.fleet:
            spoken, session, _ = await line.speak(10)
            await asyncio.sleep(10 * SETTINGS.lease_s)
            results = await session.run([spoken[-1]], Want())
            return [*spoken, *results[0].tokens], session.recovery.recovered_s

    spoken, recovered = run_virtual(main)
    assert tuple(spoken) == text(Scenario(0, tokens=11))
    assert recovered == []


# Rule 5: a few chunks of a session in flight


def most_in_flight(rules: Rules) -> int:
    async def main() -> int:
        line = Line(rules)
        async with line.fleet:
            session = await line.fleet.nodes[0].owner.open(MODEL, Sampling(), 4)
            await session.run([n % 64 for n in range(800)], Want())
        most = under_way = 0
        for source, target, message in line.seen:
            under_way += (source == 0 and target == 1) and isinstance(message, Step)
            under_way -= target == 0 and isinstance(message, Result)
            most = max(most, under_way)
        return most

    return run_virtual(main)


def test_no_more_chunks_than_the_window_are_in_flight() -> None:
    assert most_in_flight(ALL_RULES) == SETTINGS.window_chunks


def test_without_the_window_a_prompt_floods_the_ring() -> None:
    assert most_in_flight(without(limit_window=False)) > 2 * SETTINGS.window_chunks


# Rule 6: a new connection is a new epoch


def lose_a_step_with_its_connection(line: Line) -> None:
    """The connection from the owner to the first stage is reset while a step is on its way."""

    def reset() -> None:
        for connection in list(line.fleet.network._open):
            if {connection.local, connection.remote} == {line.fleet.peer(0), line.fleet.peer(1)}:
                connection.reset()

    asyncio.get_running_loop().call_later(0.0005, reset)


def test_a_new_connection_begins_a_new_epoch() -> None:
    spoken, tries, pause_s = play_line(ALL_RULES, 30, lose_a_step_with_its_connection)
    assert spoken == text(Scenario(0, tokens=60))
    assert (tries, pause_s < 2) == (1, True)


def test_without_it_a_step_that_was_lost_with_its_connection_is_waited_for() -> None:
    rules = without(new_epoch_on_reconnect=False)
    _, _, pause_s = play_line(rules, 30, lose_a_step_with_its_connection)
    assert pause_s > 20


# Rule 7: kernel sets


def loses_its_middle(profile_model: Model, spare_kernels: str):
    """Stage 2 dies; the only spare computes with `spare_kernels`."""

    async def main():
        members = [Member(can_load=False)] + [Member((cut,), can_load=False) for cut in CUTS]
        fleet = Fleet(
            1, profile_model, [*members, Member(kernels=spare_kernels)], settings=SETTINGS
        )
        async with fleet:
            session = await fleet.nodes[0].owner.open(profile_model, Sampling(), 4)
            spoken = []
            async for token in speak(session, (1, 2, 3, 4), 40):
                spoken.append(token.id)
                if len(spoken) == 20:
                    fleet.kill(2)
            return tuple(spoken), session.kernels

    return run_virtual(main)


def test_a_stand_in_of_other_kernels_is_refused_unless_the_profile_allows_it() -> None:
    with pytest.raises(NoStandIn):
        loses_its_middle(MODEL, "other")


def test_an_allowed_stand_in_of_other_kernels_labels_the_answer() -> None:
    spoken, kernels = loses_its_middle(with_profile(accepts=("other",)), "other")
    assert spoken == text(Scenario(0, tokens=40))
    assert kernels == ("hash", "other")


def test_another_version_of_the_same_engine_and_dtype_stands_in_and_is_named() -> None:
    model = with_profile(kernels="numpy-fp32-2.4")
    spoken, kernels = loses_its_middle(model, "numpy-fp32-2.3")
    assert spoken == text(Scenario(0, tokens=40))
    assert kernels == ("numpy-fp32-2.4", "numpy-fp32-2.3")


def test_another_dtype_of_the_same_engine_does_not_stand_in() -> None:
    with pytest.raises(NoStandIn):
        loses_its_middle(with_profile(kernels="torch-bf16-2.13"), "torch-fp32-2.13")


def test_a_stand_in_of_the_same_kernels_leaves_no_other_label() -> None:
    spoken, kernels = loses_its_middle(with_profile(accepts=("other",)), "hash")
    assert spoken == text(Scenario(0, tokens=40))
    assert kernels == ("hash",)


def test_a_span_that_two_holdings_make_is_two_stages() -> None:
    async def main():
        members = [Member(can_load=False), Member((Span(0, 4), Span(4, 8)), can_load=False)]
        async with Fleet(1, MODEL, members, settings=SETTINGS) as fleet:
            session = await fleet.nodes[0].owner.open(MODEL, Sampling(), 4)
            spoken = [token.id async for token in speak(session, (1, 2, 3, 4), 20)]
            return tuple(spoken), len(session.ring.route)

    assert run_virtual(main) == (text(Scenario(0, tokens=20)), 2)
