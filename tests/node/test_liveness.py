"""Which stage is lost, judged from beats alone: silent for long, or stuck in one step."""

from __future__ import annotations

import pytest

from manyhands.domain.messages import Beat
from manyhands.domain.settings import Settings
from manyhands.node.liveness import EXPECTED_FACTOR, QUIET_FACTOR, STUCK_FACTOR, Liveness
from node_cases import ANNA, BEN, SESSION, STRANGER

SETTINGS = Settings(beat_every_s=0.25, silent_after_s=0.75, silent_factor=4.0, stuck_after_s=30.0)


class Life:
    """Two stages, a clock that is moved by hand, and beats."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now_s = 1000.0
        self.liveness = Liveness(lambda: self.now_s, settings)
        self.liveness.begin((ANNA, BEN))

    def beat(self, *stages: int, running_s: float = 0.0, epoch: int = 1, finished: int = 0) -> None:
        for stage in stages:
            self.liveness.beat(Beat(SESSION, epoch, stage, finished, running_s), 1)

    def live(self, seconds: float, *stages: int, every_s: float = 0.25) -> int | None:
        """Let time pass while `stages` beat and we look; the first stage found lost, if any."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += every_s
            self.beat(*stages)
            lost, _ = self.liveness.check()
            if lost is not None:
                return lost
        return None


def test_stages_that_beat_are_alive():
    assert Life().live(60, 0, 1) is None


def test_a_stage_that_falls_silent_is_lost_after_several_times_its_usual_silence():
    life = Life()
    life.live(10, 0, 1)
    began_s = life.now_s
    assert life.live(60, 0) == 1
    assert 0.75 < life.now_s - began_s <= 1.5
    lost, reason = life.liveness.check()
    assert (lost, reason.startswith("is silent for")) == (1, True)


def test_a_stage_whose_beats_come_rarely_is_given_longer():
    life = Life()
    for _ in range(40):  # a slow link: stage 1 is heard every second
        assert life.live(0.75, 0) is None
        life.now_s += 0.25
        life.beat(0, 1)
        assert life.liveness.check() == (None, "")
    began_s = life.now_s
    assert life.live(60, 0) == 1
    assert life.now_s - began_s > 3.5


def test_anything_heard_of_a_stage_counts():
    life = Life()
    for _ in range(20):
        assert life.live(0.5, 0) is None
        life.liveness.heard(1)


def test_a_stage_is_quiet_once_its_usual_beat_is_missed():
    life = Life()
    life.live(5, 0, 1)
    assert not life.liveness.is_quiet(0)
    life.now_s += QUIET_FACTOR * 0.25 + 0.01
    assert life.liveness.is_quiet(0)
    life.beat(0)
    assert not life.liveness.is_quiet(0)


def test_a_step_that_runs_far_longer_than_any_before_is_stuck():
    life = Life()
    for running_s in (1.0, 29.0):
        life.beat(0, running_s=running_s)
        assert life.liveness.check() == (None, "")
    life.beat(0, running_s=30.5)
    lost, reason = life.liveness.check()
    assert (lost, "30.5 s" in reason) == (0, True)
    life.beat(0, running_s=0.0)
    assert life.liveness.check() == (None, "")


def test_where_steps_take_long_a_stuck_one_is_given_longer():
    life = Life()
    life.now_s += 10.0
    life.liveness.progressed()
    assert life.liveness.stuck_s() == pytest.approx(STUCK_FACTOR * 10.0)
    life.now_s += 1.0
    life.liveness.progressed()  # a quick one changes nothing
    assert life.liveness.stuck_s() == pytest.approx(STUCK_FACTOR * 10.0)


def test_the_time_the_user_thinks_is_no_steps_time():
    life = Life()
    life.now_s += 1e4
    life.liveness.resume()
    life.now_s += 1.0
    life.liveness.progressed()
    assert life.liveness.stuck_s() == SETTINGS.stuck_after_s


def test_when_we_ourselves_were_held_up_nobody_is_blamed_before_the_mail_is_read():
    life = Life()
    life.live(5, 0, 1)
    life.now_s += 100.0
    assert life.liveness.check() == (None, "")
    life.beat(0, 1)
    assert life.live(1, 0, 1) is None
    life.now_s += 100.0
    assert life.liveness.check() == (None, "")
    life.beat(0)  # and now stage 1 had its chance
    life.now_s += 0.25
    assert life.liveness.check()[0] == 1


def test_a_new_epoch_gives_every_stage_its_time_anew():
    life = Life()
    assert life.live(60, 0) == 1
    life.liveness.begin((ANNA, BEN, STRANGER))
    assert life.liveness.check() == (None, "")
    assert life.live(60, 0, 1) == 2


def test_a_peer_that_was_never_heard_is_given_half_the_time_of_a_dial():
    life = Life()
    began_s = life.now_s
    assert life.live(60, 0) == 1
    never_s = SETTINGS.dial_deadline_s / 2
    assert never_s < life.now_s - began_s <= never_s + 0.5


def test_what_is_known_of_a_peer_is_kept_in_the_next_epoch_wherever_it_stands():
    life = Life()
    for _ in range(40):  # stage 1, BEN, is heard every second
        assert life.live(0.75, 0) is None
        life.now_s += 0.25
        life.beat(0, 1)
        assert life.liveness.check() == (None, "")
    life.liveness.begin((BEN, ANNA))
    began_s = life.now_s
    assert life.live(60, 1) == 0
    assert life.now_s - began_s > SETTINGS.dial_deadline_s / 2
    life.liveness.begin((BEN, ANNA))
    began_s = life.now_s
    assert life.live(60, 0) == 1  # ANNA, who beats quickly and was heard before
    assert life.now_s - began_s < SETTINGS.dial_deadline_s / 2


def test_beats_of_older_epochs_show_that_the_peer_lives_and_those_of_later_ones_do_not():
    life = Life()
    for _ in range(40):
        life.now_s += 0.25
        life.beat(0)
        life.beat(1, epoch=0)
        assert life.liveness.check() == (None, "")
    for _ in range(40):
        life.now_s += 0.25
        life.beat(0)
        life.beat(1, epoch=2)
        lost, _ = life.liveness.check()
    assert lost == 1


def work_on(life: Life, seconds: float, **work) -> bool:
    """Let time pass while stage 1 says what it does; True when it ever seemed idle."""
    end_s, was_idle, step = life.now_s + seconds, False, 0
    while life.now_s < end_s:
        life.now_s += 0.25
        step += work.get("finishes", 0)
        life.beat(0)
        life.beat(1, running_s=work.get("running_s", 0.0), finished=step)
        was_idle |= life.liveness.is_idle()
    return was_idle


@pytest.mark.parametrize("work", [{"finishes": 1}, {"running_s": 2.0}], ids=str)
def test_while_somebody_finishes_steps_or_runs_one_nothing_is_idle(work):
    life = Life()
    assert not work_on(life, 200, **work)
    assert work_on(life, SETTINGS.stuck_after_s + 1)  # and then nobody did anything more


def test_anything_heard_or_a_step_that_came_round_is_activity():
    life = Life()
    for happens in (lambda: life.liveness.heard(0), life.liveness.progressed, life.liveness.resume):
        life.now_s += SETTINGS.stuck_after_s - 1
        assert not life.liveness.is_idle()
        happens()
    life.liveness.begin((ANNA, BEN))
    life.now_s += life.liveness.stuck_s() + 1
    assert life.liveness.is_idle()


def test_every_doubt_doubles_the_time_and_a_step_that_comes_round_ends_them():
    life = Life()
    for factor in (2, 4, 8):
        life.liveness.doubt()
        assert life.liveness.stuck_s() == factor * SETTINGS.stuck_after_s
    life.beat(0, running_s=7 * SETTINGS.stuck_after_s)
    assert life.liveness.check() == (None, "")
    life.liveness.begin((ANNA, BEN))  # a new epoch does not forget it
    assert life.liveness.stuck_s() == 8 * SETTINGS.stuck_after_s
    life.liveness.resume()
    life.liveness.progressed()
    assert life.liveness.stuck_s() == SETTINGS.stuck_after_s


def test_what_the_plan_expects_raises_the_time_and_never_lowers_it():
    life = Life()
    life.liveness.expect(0.001)
    assert life.liveness.stuck_s() == SETTINGS.stuck_after_s
    life.liveness.expect(100.0)
    assert life.liveness.stuck_s() == EXPECTED_FACTOR * 100.0
    life.beat(0, running_s=399.0)
    assert life.liveness.check() == (None, "")
