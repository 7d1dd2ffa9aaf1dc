"""Is every stage of a session alive? Judged from its beats, by the owner.

A stage is lost when it is silent for several times its usual silence, or when one step runs far
longer than steps did before (a loop can beat while its compute is stuck).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manyhands.domain.ids import PeerId
from manyhands.domain.messages import Beat
from manyhands.domain.settings import Settings
from manyhands.node.peers import Clock

STUCK_FACTOR = 8.0
"""A step this many times as long as the longest before is stuck, above the settings' least."""

EXPECTED_FACTOR = 4.0
"""A step that takes this many times what the plan expects is stuck, above the settings' least."""

MOST_GAP = 4.0
"""A silence counts as at most this many times the least that is a loss: one sleep is no habit."""

QUIET_FACTOR = 1.5
"""A beat this many times later than usual is missed."""


@dataclass(slots=True)
class _Pulse:
    """What was heard of one peer's stage: when, its usual silence, its work.

    `finished` is None until anything was heard of this peer at all.
    """

    heard_s: float
    usual_s: float
    finished: int | None = None
    running_s: float = 0.0


class Liveness:
    """One session's stages in one epoch."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock, self._settings = clock, settings
        self._pulses: list[tuple[PeerId, _Pulse]] = []
        self._checked_s = self._progressed_s = self._active_s = clock()
        self._longest_s = self._expected_s = 0.0
        self._doubts = 0

    def begin(self, peers: Sequence[PeerId]) -> None:
        """A new epoch: the peer of every stage is given its time anew."""
        now_s, beat_s = self._clock(), self._settings.beat_every_s
        known = dict(self._pulses)
        self._pulses = []
        for peer in peers:
            before = known.get(peer)
            pulse = _Pulse(now_s, beat_s if before is None else before.usual_s)
            pulse.finished = None if before is None else before.finished
            self._pulses.append((peer, pulse))
        self._checked_s = self._progressed_s = self._active_s = now_s

    def expect(self, step_s: float) -> None:
        """How long the plan thinks that a chunk takes to go round."""
        self._expected_s = step_s

    def heard(self, stage: int) -> None:
        """Anything came from this stage."""
        pulse = self._pulses[stage][1]
        pulse.heard_s = self._active_s = self._clock()
        pulse.finished = pulse.finished or 0

    def beat(self, beat: Beat, epoch: int) -> None:
        """A beat came; older epochs' beats count too: they show that the peer lives."""
        if beat.epoch > epoch:
            return
        pulse, now_s = self._pulses[beat.stage][1], self._clock()
        gap_s = min(now_s - pulse.heard_s, MOST_GAP * self._settings.silent_after_s)
        pulse.usual_s = 0.8 * pulse.usual_s + 0.2 * gap_s
        if beat.running_s > 0 or beat.finished != pulse.finished:
            self._active_s = now_s  # somebody works on it: nothing is stuck yet
        pulse.heard_s, pulse.running_s, pulse.finished = now_s, beat.running_s, beat.finished

    def progressed(self) -> None:
        """A step came round: how long it took is what steps usually take at most."""
        now_s = self._clock()
        self._longest_s = max(self._longest_s, now_s - self._progressed_s)
        self._progressed_s = self._active_s = now_s
        self._doubts = 0

    def resume(self) -> None:
        """Waiting begins now: what passed before (the user was thinking) is nobody's silence."""
        self._progressed_s = self._active_s = self._clock()

    def doubt(self) -> None:
        """Something was called stuck: if it was only slow, it gets twice the time from now on."""
        self._doubts += 1

    def stuck_s(self) -> float:
        """How long a step may take before it counts as stuck."""
        usual_s = max(STUCK_FACTOR * self._longest_s, EXPECTED_FACTOR * self._expected_s)
        return max(self._settings.stuck_after_s, usual_s) * float(2**self._doubts)

    def is_idle(self) -> bool:
        """True when for too long nothing came and nobody was at work."""
        return self._clock() - self._active_s > self.stuck_s()

    def is_quiet(self, stage: int) -> bool:
        """True when this stage missed its usual beat: not yet lost, but with other signs it is."""
        pulse = self._pulses[stage][1]
        usual_s = max(pulse.usual_s, self._settings.beat_every_s)
        return self._clock() - pulse.heard_s > QUIET_FACTOR * usual_s

    def check(self) -> tuple[int | None, str]:
        """The first stage that is lost and why, or (None, "")."""
        now_s = self._clock()
        late_s, self._checked_s = now_s - self._checked_s, now_s
        if late_s > 2 * self._settings.beat_every_s:
            return None, ""  # we ourselves were held up: what came meanwhile is not read yet
        for stage, (_, pulse) in enumerate(self._pulses):
            silent_s = now_s - pulse.heard_s
            if silent_s > self._silence_limit_s(pulse):
                return stage, f"is silent for {silent_s:.2f} s"
            if pulse.running_s > self.stuck_s():
                self.doubt()
                return stage, f"computes one step for {pulse.running_s:.1f} s"
        return None, ""

    def _silence_limit_s(self, pulse: _Pulse) -> float:
        settings = self._settings
        limit_s = max(settings.silent_after_s, settings.silent_factor * pulse.usual_s)
        if pulse.finished is None:  # never heard: there may be a dial and a long way before it
            limit_s = max(limit_s, settings.dial_deadline_s / 2)
        return limit_s
