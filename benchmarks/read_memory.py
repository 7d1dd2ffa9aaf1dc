"""How fast this machine reads memory: what decoding is set beside."""

from __future__ import annotations

import threading
import time

import numpy as np

from clocks import Clock

BYTES = 2**29
TRIES = 6


class Memory:
    """Numbers beyond the caches, read by so many threads at once."""

    def __init__(self, threads: int, size_bytes: int = BYTES) -> None:
        each = size_bytes // 4 // threads
        self._parts = [np.ones(each, np.float32) for _ in range(threads)]

    def bytes_per_s(self, clock: Clock = time.perf_counter, tries: int = TRIES) -> float:
        """The quickest of several searches for the largest number: numpy's quickest reader."""
        size = sum(part.nbytes for part in self._parts)
        return size / min(self._seconds(clock) for _ in range(tries))

    def _seconds(self, clock: Clock) -> float:
        workers = [threading.Thread(target=part.max) for part in self._parts]
        start = clock()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return clock() - start
