"""A process held to a part of its time: stopped and continued again and again, as a busy machine's.

Not on Windows, which has no such signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

SLICE_S = 0.005
"""One stop and one run take twice as long together: short beside a step, long beside a signal."""


@contextlib.contextmanager
def slowed(pid: int, share: float = 0.5) -> Iterator[None]:
    """Let a process run for `share` of the time while the context is open; then all of it again.

    A process that ends meanwhile is nobody's fault.
    """
    ended = threading.Event()

    def swing() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not ended.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(2 * SLICE_S * (1 - share))
                os.kill(pid, signal.SIGCONT)
                time.sleep(2 * SLICE_S * share)

    swinging = threading.Thread(target=swing)
    swinging.start()
    try:
        yield
    finally:
        ended.set()
        swinging.join()
