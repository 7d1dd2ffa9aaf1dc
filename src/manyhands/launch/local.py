"""Peers as processes of this machine: `hands join` started, watched, killed and ended by us.

Each has a home folder, and so a key, of its own. A child whose parent is gone ends by itself: its
standard input, which we hold, is closed then. Knows nothing of models.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manyhands.domain.span import Span
from manyhands.errors import DeadlinePassed, PeerLost, ResourceError
from manyhands.launch.joining import DoorAddress
from manyhands.launch.leftovers import cleared
from manyhands.store.home import FOLDER_VARIABLE
from manyhands.trust.invite import Invite

log = logging.getLogger(__name__)

MOST_LINE_BYTES = 1 << 20
KEPT_LINES = 20
"""The last lines of a child's complaints, to say why it ended."""

END_DEADLINE_S = 5.0

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""By which numpy's and torch's kernels are told how many threads to use."""


class LocalPeer:
    """One child process. `watch` must run for `ready` to return."""

    def __init__(self, number: int, process: asyncio.subprocess.Process) -> None:
        self.number, self.process = number, process
        self.told: Mapping[str, Any] = {}
        """What it said when it was ready: peer, address, layers."""
        self._is_ready = asyncio.Event()
        self._complaints: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def is_alive(self) -> bool:
        """True until the process has ended."""
        return self.process.returncode is None

    async def watch(self) -> None:
        """Read what it says until it ends."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._hear_complaints())
            await self.process.wait()
        self._is_ready.set()

    async def ready(self, deadline_s: float) -> None:
        """Return once it holds its layers. Raises PeerLost when it ends instead, DeadlinePassed."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._is_ready.wait()
        except TimeoutError:
            raise DeadlinePassed(
                f"peer {self.number} was not ready within {deadline_s:.0f} s{self._said()}"
            ) from None
        if not self.told:
            raise PeerLost(
                f"peer {self.number} ended by {self.process.returncode} before it was "
                f"ready{self._said()}"
            )

    def kill(self) -> None:
        """End it at once (SIGKILL, or what this system has): as a machine that loses its power."""
        if self.is_alive:
            self.process.kill()

    def freeze(self) -> None:
        """Stop it without ending it (SIGSTOP): as a machine that hangs. Not on Windows."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self.process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """Ask it to leave, then make it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(END_DEADLINE_S):
                await self.process.wait()
        except TimeoutError:
            log.warning("peer %d did not leave by itself and is killed", self.number)
            self.kill()
            await self.process.wait()

    async def _listen(self) -> None:
        async for line in _lines(self.process.stdout):
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("event") == "ready":
                    self.told = said
                    self._is_ready.set()

    async def _hear_complaints(self) -> None:
        async for line in _lines(self.process.stderr):
            self._complaints.append(line)
            log.info("peer %d: %s", self.number, line)

    def _said(self) -> str:
        return f"; it said: {' '.join(self._complaints)}" if self._complaints else ""


class LocalPeers:
    """Several of them. Use as a context manager: on the way out all are ended, whatever happened.

    `folder` holds a home folder for each. They share the cores: each computes with as many threads
    as its part of `expected` peers, unless the environment says how many already.
    """

    def __init__(self, folder: Path, expected: int) -> None:
        self.peers: list[LocalPeer] = []
        self._folder = folder
        self._threads = max(1, (os.cpu_count() or 1) // max(expected, 1))
        self._watching: asyncio.TaskGroup | None = None
        self._killing = contextlib.ExitStack()

    async def __aenter__(self) -> LocalPeers:
        self._killing.enter_context(cleared(self._kill))
        self._watching = asyncio.TaskGroup()
        await self._watching.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        async with asyncio.TaskGroup() as ending:
            for peer in self.peers:
                ending.create_task(peer.end())
        if self._watching is not None:
            await self._watching.__aexit__(*raised)
        self._killing.close()

    async def start(
        self,
        door: DoorAddress,
        invite: Invite,
        model: Path,
        span: Span | None,
        *options: str,
    ) -> LocalPeer:
        """One more peer of the swarm behind `door`. Raises ResourceError when it cannot start."""
        number = len(self.peers) + 1
        words = ["join", str(door), "--json", "--with-parent", "--model", str(model), *options]
        if span is not None:
            words += ["--span", f"{span.first}:{span.last}"]
        environment = {
            **dict.fromkeys(THREAD_VARIABLES, str(self._threads)),
            **os.environ,
            FOLDER_VARIABLE: str(self._folder / f"peer-{number}"),
            # no argument: other people of the machine can read those
            "MANYHANDS_INVITE": invite.text,
        }
        process = await _spawn(words, environment)
        peer = LocalPeer(number, process)
        self.peers.append(peer)
        if self._watching is not None:
            self._watching.create_task(peer.watch())
        return peer

    def alive(self) -> tuple[LocalPeer, ...]:
        """Those whose process runs."""
        return tuple(peer for peer in self.peers if peer.is_alive)

    def _kill(self) -> None:
        for peer in self.alive():
            with contextlib.suppress(ProcessLookupError):
                peer.kill()


async def _spawn(
    words: Sequence[str], environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # or a `random.py` of the folder we stand in would be taken for Python's own
            "-m",
            "manyhands.cli.app",
            *words,
            env=dict(environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MOST_LINE_BYTES,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
        )
    except OSError as error:
        raise ResourceError(f"no further process can be started: {error}") from error


async def _lines(stream: asyncio.StreamReader | None) -> Any:
    """The lines of a child's pipe, without their ends; an endless one is skipped."""
    while stream is not None:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line.decode("utf-8", "replace").rstrip()
