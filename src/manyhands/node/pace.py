"""How many tokens of a prompt go in one step, so that a chunk holds up nobody for long.

Begins with what the plan says of the stages' devices, and is corrected by what chunks really took.
Knows nothing of sessions or messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from manyhands.domain.settings import Settings
from manyhands.plan.batching import LEAST_CHUNK, chunk_tokens

SMOOTHING = 0.5
"""Share of the newest chunk in what is taken as usual."""

Predict = Callable[[int, int], Sequence[float]]
"""(tokens of a step, tokens in memory before it) -> its seconds at each stage, as planned."""


class Pace:
    """Use: `begin` with a route, `tokens` of each chunk, `took` after it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._predict: Predict | None = None
        self._slower = 1.0

    def begin(self, predict: Predict) -> None:
        """A new route, of other devices perhaps."""
        self._predict = predict

    def took(self, tokens: int, position: int, stages_s: Sequence[float]) -> None:
        """A chunk went round; `stages_s` is what each stage computed, batch-mates included."""
        if self._predict is None or tokens < LEAST_CHUNK:
            return
        planned_s = max(self._predict(tokens, position), default=0.0)
        if stages_s and isfinite(planned_s) and planned_s > 0:
            slower = max(stages_s) / planned_s
            self._slower += SMOOTHING * (slower - self._slower)

    def tokens(self, position: int, left: int) -> int:
        """Tokens of a chunk that begins at `position` while `left` are waiting."""
        settings, predict, slower = self._settings, self._predict, self._slower
        if left <= min(LEAST_CHUNK, settings.chunk_tokens):
            return max(1, left)  # no plan cuts these, and asking one takes longer than many a step

        def step_s(tokens: int) -> float:
            planned_s = max(predict(tokens, position), default=0.0) if predict is not None else 0.0
            return slower * planned_s if isfinite(planned_s) else 0.0

        return chunk_tokens(settings.chunk_tokens, settings.chunk_delay_s, step_s)
