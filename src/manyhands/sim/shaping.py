"""When bytes arrive over a link of a given delay, rate and loss: arithmetic, the time an argument.

Knows nothing of sockets or clocks: TCP connections and the frames of a network card are shaped by
the same few lines.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from manyhands.net.memory import Path

SEGMENT_BYTES = 1448
"""What a TCP segment carries over Ethernet; `Path.loss` counts in these."""


@dataclass(frozen=True, slots=True)
class Shape(Path):
    """One direction of a link between machines: a Path, and what a queue in front of it does.

    `latency_s` is one way; up to `jitter_s` comes on top, evenly drawn. `queue_bytes` may wait for
    their turn at `rate_bytes_per_s`: the most that others' traffic can delay one's own.
    """

    jitter_s: float = 0.0
    queue_bytes: int = 256 << 10


class Wire:
    """One direction: whatever goes through it shares its rate, first come first served."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._free_s = 0.0

    @property
    def shape(self) -> Shape:
        """The one in force."""
        return self._shape

    def reshape(self, shape: Shape, now_s: float) -> None:
        """From now on; what waits for its turn waits at most as long as a full queue of `shape`."""
        self._shape = shape
        self._free_s = min(self._free_s, now_s + shape.queue_bytes / shape.rate_bytes_per_s)

    def full_s(self, now_s: float) -> float:
        """Seconds until the queue has room; 0 when it has some."""
        shape = self._shape
        return max(0.0, self._free_s - now_s - shape.queue_bytes / shape.rate_bytes_per_s)

    def left_s(self, size_bytes: int, now_s: float) -> float:
        """Take `size_bytes` into the queue; when the last of them has left."""
        self._free_s = max(self._free_s, now_s) + size_bytes / self._shape.rate_bytes_per_s
        return self._free_s


class Flow:
    """One connection in one direction of a link: its bytes arrive in order, and none is lost.

    Loss is what TCP makes of it: bytes in which a segment is lost arrive `resend_after_s` later,
    and those behind wait, as does what would be sent meanwhile. So a step is late now and then, and
    a long transfer gets no further than some tens of segments between two losses. Not modelled:
    repair within a round trip (real TCP is often quicker), slow start, congestion control.
    """

    def __init__(self, wire: Wire, chance: random.Random) -> None:
        self._wire, self._chance = wire, chance
        self._stalled_s = 0.0
        self._last_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until more may be sent: the queue is full, or a loss not repaired."""
        return max(self._wire.full_s(now_s), self._stalled_s - now_s)

    def arrival_s(self, size_bytes: int, now_s: float) -> float:
        """Send them; when the last of them arrives."""
        shape = self._wire.shape
        arrival_s = self._wire.left_s(size_bytes, now_s) + shape.latency_s
        if shape.jitter_s:
            arrival_s += self._chance.uniform(0.0, shape.jitter_s)
        segments = -(-size_bytes // SEGMENT_BYTES)
        if shape.loss and self._chance.random() >= (1 - shape.loss) ** segments:
            arrival_s += shape.resend_after_s
            self._stalled_s = arrival_s
        self._last_s = max(self._last_s, arrival_s)
        return self._last_s
