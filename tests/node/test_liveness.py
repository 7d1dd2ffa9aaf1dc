"""Which stage is lost, judged from beats alone: silent for long, or stuck in one step."""

from __future__ import annotations

import pytest

from manyhands.domain.messages import Beat
from manyhands.domain.settings import Settings
from manyhands.node.liveness import QUIET_FACTOR, STUCK_FACTOR, Liveness
from node_cases import SESSION

SETTINGS = Settings(beat_every_s=0.25, silent_after_s=0.75, silent_factor=4.0, stuck_after_s=30.0)


class Life:
    """Two stages, a clock that is moved by hand, and beats."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now_s = 1000.0
        self.liveness = Liveness(lambda: self.now_s, settings)
        self.liveness.begin(2)

    def beat(self, *stages: int, running_s: float = 0.0, epoch: int = 1) -> None:
        for stage in stages:
            self.liveness.beat(Beat(SESSION, epoch, stage, 0, running_s), 1)

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
    life.liveness.heard(7)  # nobody stands there


def test_a_stage_is_quiet_once_its_usual_beat_is_missed():
    life = Life()
    life.live(5, 0, 1)
    assert not life.liveness.is_quiet(0)
    life.now_s += QUIET_FACTOR * 0.25 + 0.01
    assert life.liveness.is_quiet(0)
    life.beat(0)
    assert not life.liveness.is_quiet(0)
    assert not life.liveness.is_quiet(7)


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


def test_a_forgotten_stage_is_watched_no_more():
    life = Life()
    life.liveness.forget(1)
    life.liveness.forget(1)
    assert life.live(60, 0) is None


def test_a_new_epoch_gives_every_stage_its_time_anew():
    life = Life()
    assert life.live(60, 0) == 1
    life.liveness.begin(3)
    assert life.liveness.check() == (None, "")
    assert life.live(60, 0, 1) == 2


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
        life.beat(9)
        lost, _ = life.liveness.check()
    assert lost == 1
