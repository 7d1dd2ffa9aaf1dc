"""Threads that share the units of a job with the thread that calls, without a barrier.

A helper that is late, because the machine is busy, takes fewer units or none: nobody waits for one
that has not begun. Between jobs helpers look for the next one for a fraction of a millisecond, then
sleep until they are woken. Knows nothing of what a unit does. Needs numba.

The claim word, in memory that all see, is (job number << 32) | next unit; a unit is taken by
compare-and-swap, and a new job's figures are written only while the word is closed to everybody.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from manyhands.engine.native import add, native, read, swap, write

CLAIM, DONE, UNITS, SLEEPERS, ENDED = 0, 8, 16, 24, 32
"""Places of the counters; each in a cache line of its own would be 8 apart, and is."""

ARGUMENTS = 40
"""Where a job's own figures begin."""

SIZE = 64
MOST_UNITS = 2**31
CLOSED = 2**32 - 1
LOOKS = 20_000
"""How often a helper looks for the next job before it sleeps: about 0.2 ms."""


@native
def claim_word(state: int) -> int:
    """The claim word as it is now."""
    return read(state + 8 * CLAIM)


@native
def claimed(state: int, number: int) -> int:
    """The next unit of job `number`, now the caller's own; -1 when none is left or it is over."""
    while True:
        word = read(state + 8 * CLAIM)
        unit = word & CLOSED
        if word >> 32 != number or unit >= read(state + 8 * UNITS):
            return -1
        if swap(state + 8 * CLAIM, word, word + 1):
            return unit


@native
def finished(state: int) -> None:
    """Say that a unit is done."""
    add(state + 8 * DONE, 1)


@native
def close_to_all(state: int) -> int:
    """Before a new job's figures are written, and after the one before is done: its number."""
    number = ((read(state + 8 * CLAIM) >> 32) + 1) & (MOST_UNITS - 1)
    write(state + 8 * CLAIM, (number << 32) | CLOSED)
    write(state + 8 * DONE, 0)
    return number


@native
def figure(state: int, place: int, value: int) -> None:
    """Write a figure of the job that is being prepared."""
    write(state + 8 * (ARGUMENTS + place), value)


@native
def open_to_all(state: int, number: int, units: int) -> None:
    """From now on units can be claimed."""
    write(state + 8 * UNITS, units)
    write(state + 8 * CLAIM, number << 32)


@native
def is_done(state: int, units: int, looks: int) -> bool:
    """Look so often whether every unit is done."""
    for _ in range(looks):  # noqa: SIM110 (compiled: no generators)
        if read(state + 8 * DONE) == units:
            return True
    return False


@native
def next_job(state: int, last: int, looks: int) -> int:
    """The number of a job after `last`; -1 when none came within `looks`, -2 when all is over."""
    for _ in range(looks):
        if read(state + 8 * ENDED) != 0:
            return -2
        word = read(state + 8 * CLAIM)
        if word >> 32 != last and word & CLOSED != CLOSED:
            return word >> 32
    return -1


@native
def is_attended(state: int, units: int, threads: int) -> bool:
    """True where nobody has to be woken for a job of so many units."""
    return units == 1 or threads == 1 or read(state + 8 * SLEEPERS) == 0


@native
def _units(state: int) -> int:
    """Of the job that was opened last."""
    return read(state + 8 * UNITS)


@native
def _sleepers(state: int, change: int) -> int:
    return add(state + 8 * SLEEPERS, change) + change


class Kernels(Protocol):
    """What `block_kernels` has, all compiled and without the interpreter's lock."""

    @property
    def share(self) -> Callable[[int, int], None]:
        """(state, job number): do units of that job while there are any."""

    @property
    def multiply(self) -> Callable[..., int]:
        """Begin a product; what `Crew.end` is to be told."""

    @property
    def attend(self) -> Callable[..., int]:
        """Begin attention, likewise."""

    @property
    def attend_rows(self) -> Callable[..., int]:
        """Begin attention of rows whose keys and values are kept first, likewise."""


class RowKernels(Protocol):
    """What `row_kernels` has, likewise."""

    @property
    def norm_rows(self) -> Callable[..., None]:
        """Root-mean-square norms."""

    @property
    def gate_rows(self) -> Callable[..., None]:
        """The inner rows of gated MLPs."""


class Crew:
    """`threads` threads for one caller at a time, the calling one included."""

    def __init__(self, threads: int, kernels: Kernels, rows: RowKernels) -> None:
        self.threads, self.kernels, self.rows = threads, kernels, rows
        self._share = share = kernels.share
        self._memory = np.zeros(SIZE, np.int64)
        self._state = int(self._memory.ctypes.data)
        self._bell = threading.Semaphore(0)
        self._room = np.empty(0, np.uint8)
        self._room_at = 0
        for number in range(1, threads):
            work = (self._memory, self._state, self._bell, share)
            threading.Thread(target=_help, args=work, name=f"crew-{number}", daemon=True).start()
        weakref.finalize(self, _end, self._memory, self._state, self._bell, threads)

    def __deepcopy__(self, _memo: object) -> Crew:
        return self  # threads are not copied; a copied engine is called where the first one is

    @property
    def state(self) -> int:
        """Where the job lies, for those who prepare one."""
        return self._state

    def room(self, size: int) -> int:
        """Where so many bytes lie that the next job may use, at a multiple of 64."""
        if size > self._room.size - 64:
            self._room = np.empty(size + size // 4 + 64, np.uint8)
            self._room_at = -(-int(self._room.ctypes.data) // 64) * 64
        return self._room_at

    def end(self, number: int) -> None:
        """Return when a job is done that a kernel began; -1 is one that is."""
        if number >= 0:
            self.run(number, _units(self._state))

    def run(self, number: int, units: int) -> None:
        """Do the job that was opened; returns when all its units are done."""
        if units > 1 and self.threads > 1:
            for _ in range(min(_sleepers(self._state, 0), units - 1)):
                self._bell.release()
        self._share(self._state, number)
        while not is_done(self._state, units, LOOKS):
            time.sleep(0)  # a helper has a unit and no processor: give it ours


def _help(
    _memory: Any, state: int, bell: threading.Semaphore, share: Callable[[int, int], None]
) -> None:
    """A helper's life. It holds the memory, never the Crew, so that a Crew can be forgotten."""
    last = claim_word(state) >> 32
    while True:
        number = next_job(state, last, LOOKS)
        if number == -1:
            _sleepers(state, 1)
            number = next_job(state, last, 1)  # one that was published meanwhile rings no bell
            if number == -1:
                bell.acquire()
            _sleepers(state, -1)
            continue
        if number == -2:
            return
        share(state, number)
        last = number


def _end(_memory: Any, state: int, bell: threading.Semaphore, threads: int) -> None:
    _write_ended(state)
    for _ in range(threads):
        bell.release()


@native
def _write_ended(state: int) -> None:
    write(state + 8 * ENDED, 1)
