"""Is every stage of a session alive? Judged from its beats, by the owner.

A stage is lost when it is silent for several times its usual silence, or when one step runs far
longer than steps did before (a loop can beat while its compute is stuck).
"""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.domain.messages import Beat
from manyhands.domain.settings import Settings
from manyhands.node.peers import Clock

STUCK_FACTOR = 8.0
"""A step this many times as long as the longest before is stuck, above the settings' least."""

QUIET_FACTOR = 1.5
"""A beat this many times later than usual is missed."""


@dataclass(slots=True)
class _Pulse:
    """What was heard of one stage: when last, its usual silence, the age of its running step."""

    heard_s: float
    usual_s: float
    running_s: float = 0.0


class Liveness:
    """One session's stages in one epoch."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock, self._settings = clock, settings
        self._pulses: dict[int, _Pulse] = {}
        self._checked_s = clock()
        self._progressed_s = clock()
        self._longest_s = 0.0

    def begin(self, stages: int) -> None:
        """A new epoch: every stage is given its time anew."""
        now_s, beat_s = self._clock(), self._settings.beat_every_s
        self._pulses = {stage: _Pulse(now_s, beat_s) for stage in range(stages)}
        self._checked_s = self._progressed_s = now_s

    def forget(self, stage: int) -> None:
        """Watch this stage no more (it answered that it does not hold the session)."""
        self._pulses.pop(stage, None)

    def heard(self, stage: int) -> None:
        """Anything came from this stage."""
        if stage in self._pulses:
            self._pulses[stage].heard_s = self._clock()

    def beat(self, beat: Beat, epoch: int) -> None:
        """A beat came; older epochs' beats count too: they show that the peer lives."""
        pulse = self._pulses.get(beat.stage)
        if pulse is None or beat.epoch > epoch:
            return
        gap_s = self._clock() - pulse.heard_s
        pulse.usual_s = 0.8 * pulse.usual_s + 0.2 * gap_s
        pulse.heard_s, pulse.running_s = self._clock(), beat.running_s

    def progressed(self) -> None:
        """A step came round: how long it took is what steps usually take at most."""
        now_s = self._clock()
        self._longest_s = max(self._longest_s, now_s - self._progressed_s)
        self._progressed_s = now_s

    def resume(self) -> None:
        """Waiting begins now: what passed before (the user was thinking) is nobody's silence."""
        self._progressed_s = self._clock()

    def stuck_s(self) -> float:
        """How long a step may take before it counts as stuck."""
        return max(self._settings.stuck_after_s, STUCK_FACTOR * self._longest_s)

    def patience_s(self) -> float:
        """How long to wait for anything to come: beats name a stuck stage before this runs out."""
        return 2 * self.stuck_s()

    def is_quiet(self, stage: int) -> bool:
        """True when this stage missed its usual beat: not yet lost, but with other signs it is."""
        pulse = self._pulses.get(stage)
        if pulse is None:
            return False
        usual_s = max(pulse.usual_s, self._settings.beat_every_s)
        return self._clock() - pulse.heard_s > QUIET_FACTOR * usual_s

    def check(self) -> tuple[int | None, str]:
        """The first stage that is lost and why, or (None, "")."""
        now_s = self._clock()
        late_s, self._checked_s = now_s - self._checked_s, now_s
        if late_s > 2 * self._settings.beat_every_s:
            return None, ""  # we ourselves were held up: what came meanwhile is not read yet
        for stage, pulse in self._pulses.items():
            silent_s = now_s - pulse.heard_s
            limit_s = max(
                self._settings.silent_after_s, self._settings.silent_factor * pulse.usual_s
            )
            if silent_s > limit_s:
                return stage, f"is silent for {silent_s:.2f} s"
            if pulse.running_s > self.stuck_s():
                return stage, f"computes one step for {pulse.running_s:.1f} s"
        return None, ""
