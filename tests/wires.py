"""Wires between network cards that are files (Linux, root), each with a delay and a rate per way.

    python tests/wires.py LATENCY_S RATE_BYTES_PER_S INSIDE:OUTSIDE …

Makes both cards (TAP devices) of each wire, says so, and carries frames between them until its
standard input ends. Segments come and go as large as the kernel made them (up to 64 KiB, by the
header that a virtual card has), so a frame costs what a hundred would. What finds the queue full is
dropped, as a switch does. For kernels without netem.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

from manyhands.sim.shaping import Flow, Shape, Wire

SET_CARD, SET_HEADER, SET_OFFLOAD = 0x400454CA, 0x400454D8, 0x400454D0
TAP, NO_INFO, WITH_HEADER = 0x0002, 0x1000, 0x4000
CHECKSUMS, LARGE_IPV4, LARGE_IPV6 = 1, 2, 4
HEADER_BYTES, FRAME_BYTES = 10, (64 << 10) + 256
AT_ONCE = 16
"""So many frames are read from a card before the others have their turn."""

QUEUE_BYTES = 1 << 20
"""A switch's: eight milliseconds at 1 Gbit/s."""

PASSING_S = 3e-5
"""About what a frame's way through here costs besides, part of its delay."""

EARLY_S = 6e-5
"""The system wakes us so late, about; in the last moment before a frame is due we do not sleep."""


def card(name: str) -> int:
    """A new TAP device; gone when closed."""
    made = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    asked = struct.pack("16sH22x", name.encode(), TAP | NO_INFO | WITH_HEADER)
    fcntl.ioctl(made, SET_CARD, asked)
    fcntl.ioctl(made, SET_HEADER, struct.pack("i", HEADER_BYTES))
    fcntl.ioctl(made, SET_OFFLOAD, CHECKSUMS | LARGE_IPV4 | LARGE_IPV6)
    return made


class Way:
    """One direction of a wire."""

    def __init__(self, source: int, target: int, shape: Shape) -> None:
        self.source, self.target = source, target
        self._flow = Flow(Wire(shape), random.Random(0))
        self.under_way: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        """What the source has, into the queue or onto the floor."""
        for _ in range(AT_ONCE):
            try:
                frame = os.read(self.source, FRAME_BYTES)
            except (BlockingIOError, OSError):  # nothing, or a card that is down
                return
            now_s = time.monotonic()
            if self._flow.wait_s(now_s) <= 0:
                arrival_s = self._flow.arrival_s(len(frame) - HEADER_BYTES, now_s)
                self.under_way.append((arrival_s - PASSING_S, frame))

    def give(self, now_s: float) -> None:
        """What is due, to the target."""
        while self.under_way and self.under_way[0][0] <= now_s:
            _, frame = self.under_way.popleft()
            try:
                os.write(self.target, frame)
            except OSError:  # a card that is down takes nothing
                continue


def carry(ways: list[Way]) -> None:
    """Until standard input ends."""
    of = {way.source: way for way in ways}
    asked = [sys.stdin.fileno(), *of]
    while True:
        due_s = min((way.under_way[0][0] for way in ways if way.under_way), default=None)
        left_s = None if due_s is None else max(0.0, due_s - time.monotonic() - EARLY_S)
        ready, _, _ = select.select(asked, (), (), left_s)
        for one in ready:
            if one not in of:
                return
            of[one].take()
        now_s = time.monotonic()
        for way in ways:
            way.give(now_s)


def main() -> None:
    latency_s, rate, *wires = sys.argv[1:]
    shape = Shape(float(latency_s), float(rate), queue_bytes=QUEUE_BYTES)
    ways = []
    for wire in wires:
        inside, outside = map(card, wire.split(":"))
        ways += [Way(inside, outside, shape), Way(outside, inside, shape)]
    sys.stdout.write("made\n")
    sys.stdout.flush()
    carry(ways)


if __name__ == "__main__":
    main()
