"""How much a peer may still send and compute now, by its user's limits.

What is over is paid back by waiting before the next: nothing under way is held up. Knows nothing of
what is sent or computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

BURST_S = 0.25
"""So much of a second's bytes may go at once after a time without any."""


class Allowance:
    """Tell it what was `sent` and `computed`; wait for `wait_s` before computing more."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.upload_bytes_per_s, self.share = inf, 1.0
        self._clock = clock
        self._sent_until_s = self._rest_until_s = -inf

    def sent(self, size_bytes: int) -> None:
        """So many bytes went to other peers."""
        began_s = max(self._sent_until_s, self._clock() - BURST_S)
        self._sent_until_s = began_s + size_bytes / self.upload_bytes_per_s

    def computed(self, seconds: float) -> None:
        """The device was at work for so long, until now."""
        self._rest_until_s = self._clock() + seconds * (1 / self.share - 1)

    def wait_s(self) -> float:
        """Seconds until more may be computed, whose outcome is sent; 0 when it may be now."""
        return max(0.0, max(self._rest_until_s, self._sent_until_s) - self._clock())

    async def to_send(self) -> None:
        """Return once what was sent before is paid for."""
        left_s = self._sent_until_s - self._clock()
        if left_s > 0:
            await asyncio.sleep(left_s)
