"""One fetch under way: each piece asked of one giver, several givers at once, every piece verified.

A giver that is silent loses its pieces to the others, one that is slow when nothing else is left to
ask for; one whose bytes are wrong is named and asked no more. Knows nothing of spans or models.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from manyhands.domain.ids import PeerId, short
from manyhands.domain.manifest import BLOCK_BYTES, ManifestId, Piece
from manyhands.domain.messages import AskBlock, Blob, Block, Message
from manyhands.domain.settings import Settings
from manyhands.engine.compute import Compute
from manyhands.errors import CheckpointError, ManyhandsError, PeerError, PeerLied, PeerLost
from manyhands.node.peers import Clock
from manyhands.store.fetched import FetchedFolder

log = logging.getLogger(__name__)

WINDOW_BLOCKS = 32
"""Blocks asked of one giver and not come yet: 8 MiB keep a gigabit busy over 60 ms."""

WRITE_AT_A_TIME = 8
"""Pieces that are verified and written in one go."""

MOST_UNWRITTEN_BYTES = 32 << 20
"""With more than this waiting for the disk nothing new is asked for."""

WATCH_EVERY_S = 0.1
ASK_AGAIN_S = 1.0
"""Between two looks for others who could give."""

MOST_BUSY_S = 1800.0
"""Whoever hashes its files first is waited for so long: 2 TB from a fast disk."""

ELSEWHERE_AFTER_S = 3.0
"""When nobody here has given anything for so long, pieces are asked for elsewhere."""

ELSEWHERE_AGAIN_S = 10.0
"""After it gave nothing."""


@dataclass(slots=True)
class _Part:
    """A piece on its way from one giver, and its blocks so far by their first byte."""

    number: int
    size_bytes: int
    asked_bytes: int = 0
    came_bytes: int = 0
    blocks: dict[int, Blob] = field(default_factory=dict)


@dataclass(slots=True)
class _Giver:
    """Whom we ask. `asked` are the blocks that are on their way, by piece and first byte."""

    peer: PeerId
    had: set[int]
    heard_s: float
    usual_s: float = 0.0
    is_silent: bool = False
    parts: dict[int, _Part] = field(default_factory=dict)
    asked: dict[tuple[int, int], int] = field(default_factory=dict)


class Fetching:
    """Use: `run`; meanwhile hand it givers and what comes from them.

    `look` asks around for givers, `told` hears the bytes of each piece that is kept.
    """

    def __init__(
        self,
        folder: FetchedFolder,
        name: ManifestId,
        wanted: Iterable[int],
        disk: Compute,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, Message], None],
        look: Callable[[], None],
        told: Callable[[int], None],
    ) -> None:
        self.liars: dict[PeerId, str] = {}
        self.elsewhere: Callable[[Piece], Awaitable[bytes]] | None = None
        self.folder, self._name, self.table = folder, name, folder.table
        self._disk, self._clock, self._settings = disk, clock, settings
        self._send, self._look, self._told = send, look, told
        self._elsewhere_s, self._elsewhere_said = 0.0, ""  # not before; what it said last
        self._pending = dict.fromkeys(sorted(wanted))  # asked of nobody
        self._left = set(self._pending)
        self._givers: dict[PeerId, _Giver] = {}
        self._whole: deque[tuple[PeerId, int, list[Blob]]] = deque()
        self._unwritten_bytes = 0
        self._changed = asyncio.Event()
        self._began_s = self._progress_s = self._looked_s = self._given_s = clock()

    def lacks(self, peer: PeerId) -> bool:
        """True when this peer may yet say of pieces we want that it has them."""
        giver = self._givers.get(peer)
        return peer not in self.liars and (giver is None or not giver.had >= self._left)

    def give(self, peer: PeerId, numbers: Iterable[int]) -> None:
        """A peer says that it has these pieces."""
        had = self._left.intersection(numbers)
        if peer in self.liars or not had:
            return
        giver = self._givers.get(peer)
        if giver is None:
            giver = self._givers[peer] = _Giver(peer, had, self._clock())
        giver.had |= had
        self._fill(giver)

    def block(self, peer: PeerId, block: Block) -> None:
        """Some bytes came."""
        giver = self._givers.get(peer)
        if giver is None:
            return
        size, now_s = giver.asked.pop((block.piece, block.first), None), self._clock()
        part = giver.parts.get(block.piece)
        if size is None:
            return  # late, for a fetch before this one
        if size != len(block.data):
            self._drop(giver, f"sent {len(block.data)} bytes where {size} were asked for")
            return
        giver.usual_s = max(0.9 * giver.usual_s, min(now_s - giver.heard_s, 4 * giver.usual_s + 1))
        giver.heard_s, giver.is_silent = now_s, False
        if part is not None:
            part.blocks[block.first] = block.data
            part.came_bytes += size
            if part.came_bytes == part.size_bytes:
                del giver.parts[part.number]
                blocks = [part.blocks[first] for first in sorted(part.blocks)]
                self._whole.append((peer, part.number, blocks))
                self._unwritten_bytes += part.size_bytes
                self._changed.set()
        self._fill(giver)

    def wait(self) -> None:
        """Somebody here is getting ready to give: neither give up nor ask elsewhere yet."""
        if self._clock() - self._began_s < MOST_BUSY_S:
            self._progress_s = self._given_s = self._clock()

    def lost(self, peer: PeerId) -> None:
        """Nothing more comes from there, unless it speaks again."""
        giver = self._givers.pop(peer, None)
        if giver is not None:
            self._hand_back(giver)

    async def run(self) -> None:
        """Until all is kept.

        Raises PeerLost, or PeerLied where only liars are left, when nothing came for
        `fetch_wait_s`; ResourceError when the disk does not take it.
        """
        self._look()
        watched_s = self._clock()
        while self._left:
            if self._clock() - watched_s > WATCH_EVERY_S:
                watched_s = self._clock()
                self._watch()
            if self._whole:
                await self._keep_some()
                continue
            if self._is_due_elsewhere():
                await self._take_elsewhere()
                continue
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_EVERY_S):
                    await self._changed.wait()

    def _is_due_elsewhere(self) -> bool:
        """True while nobody here gives what is missing, and somewhere else might."""
        if self.elsewhere is None or not self._pending:
            return False
        if self._clock() < max(self._given_s + ELSEWHERE_AFTER_S, self._elsewhere_s):
            return False
        return all(one.is_silent or not one.asked for one in self._givers.values())

    async def _take_elsewhere(self) -> None:
        """One piece from the hub. Raises CheckpointError when it gives another."""
        elsewhere, number = self.elsewhere, next(iter(self._pending))
        if elsewhere is None:
            return
        del self._pending[number]
        piece = self.table[number]
        try:
            data = await elsewhere(piece)
        except ManyhandsError as error:  # no way there now: those here may give it after all
            log.info("%s does not give piece %d: %s", self.folder.origin, number, error)
            self._elsewhere_said = f"; {self.folder.origin} does not give them: {error}"
            self._elsewhere_s = self._clock() + ELSEWHERE_AGAIN_S
            self._pending[number] = None
            return
        if not await self._disk.run(lambda: self.folder.write(number, [data]), 0.0):
            raise CheckpointError(
                f"piece {number} ({piece.file} from byte {piece.first} on) is another one at "
                f"{self.folder.origin} than here; let a device join that has it"
            )
        self._has(number)

    async def _keep_some(self) -> None:
        """Verify some pieces and write them."""
        count = min(len(self._whole), WRITE_AT_A_TIME)
        some = [self._whole.popleft() for _ in range(count)]

        def write() -> list[bool]:
            return [
                number in self.folder.had or self.folder.write(number, blocks)
                for _, number, blocks in some
            ]

        kept = await self._disk.run(write, 0.0)
        for (peer, number, _), is_good in zip(some, kept, strict=True):
            self._kept(peer, number, is_good=is_good)
        for giver in tuple(self._givers.values()):
            self._fill(giver)

    def _kept(self, peer: PeerId, number: int, *, is_good: bool) -> None:
        """A piece is here, or its sender is dropped because it sent another one."""
        piece, is_new = self.table[number], number in self._left
        self._unwritten_bytes -= piece.size_bytes
        if is_new and not is_good:
            self.liars[peer] = f"piece {number} ({piece.file} from byte {piece.first} on) is wrong"
            self._pending[number] = None
            giver = self._givers.get(peer)
            if giver is not None:
                self._drop(giver, self.liars[peer])
        elif is_new:
            self._given_s = self._clock()
            self._has(number)

    def _has(self, number: int) -> None:
        """A piece is kept."""
        self._progress_s = self._clock()
        self._left.discard(number)
        self._pending.pop(number, None)
        for giver in self._givers.values():
            giver.parts.pop(number, None)
        self._told(self.table[number].size_bytes)

    def _fill(self, giver: _Giver) -> None:
        """Ask until as much is on its way as may be."""
        while not giver.is_silent and len(giver.asked) < WINDOW_BLOCKS:
            if self._unwritten_bytes > MOST_UNWRITTEN_BYTES:
                return
            part = self._next_part(giver)
            if part is None:
                return
            if not giver.asked:
                giver.heard_s = self._clock()
            first = part.asked_bytes
            part.asked_bytes = min(first + BLOCK_BYTES, part.size_bytes)
            giver.asked[part.number, first] = part.asked_bytes - first
            self._send(giver.peer, AskBlock(self._name, part.number, first, part.asked_bytes))

    def _next_part(self, giver: _Giver) -> _Part | None:
        """What of a piece to ask this giver for next."""
        for part in giver.parts.values():
            if part.asked_bytes < part.size_bytes:
                return part
        late = {number for number, _ in giver.asked}  # of a piece that was taken from it
        few, other = sorted((self._pending, giver.had), key=len)
        number = next((n for n in few if n in other and n not in late), None)
        if number is None:
            number = None if giver.asked else self._slowest_of_others(giver)
        if number is None:
            return None
        self._pending.pop(number, None)
        part = _Part(number, self.table[number].size_bytes)
        giver.parts[number] = part
        return part

    def _slowest_of_others(self, giver: _Giver) -> int | None:
        """With all pieces asked for: of those that others are at, the one with most to come.

        So a slow giver is not waited for; a piece is asked of two at most.
        """
        parts = [part for one in self._givers.values() for part in one.parts.values()]
        numbers = [part.number for part in parts]
        waiting = {number for _, number, _ in self._whole}
        open_ones = [
            part
            for part in parts
            if part.number in giver.had - waiting and numbers.count(part.number) < 2
        ]
        slowest = max(open_ones, key=lambda part: part.size_bytes - part.came_bytes, default=None)
        return None if slowest is None else slowest.number

    def _watch(self) -> None:
        """See who is silent, look for others, and give up when nothing comes any more."""
        now_s, settings = self._clock(), self._settings
        least_s = settings.silent_after_s + BLOCK_BYTES / settings.slowest_link_bytes_per_s
        for giver in tuple(self._givers.values()):
            limit_s = max(least_s, settings.silent_factor * giver.usual_s)
            if giver.asked and not giver.is_silent and now_s - giver.heard_s > limit_s:
                log.info("peer %s gives nothing for %.1f s", short(giver.peer), limit_s)
                giver.is_silent = True
                self._hand_back(giver)
        if now_s - self._looked_s > ASK_AGAIN_S:
            self._looked_s = now_s
            self._look()
        if now_s - self._progress_s > settings.fetch_wait_s:
            raise self._nobody_gives()

    def _nobody_gives(self) -> PeerError:
        what = (
            f"{len(self._left)} pieces ({self.table.size_bytes(self._left) / 1e6:,.1f} MB) of "
            f"{self.folder.folder.name} are missing, and nobody gave one for "
            f"{self._settings.fetch_wait_s:.0f} s; what came is kept: try again when a peer that "
            f"has them is here{self._elsewhere_said}"
        )
        if not self.liars:
            return PeerLost(what)
        named = "; ".join(f"peer {short(peer)}: {why}" for peer, why in self.liars.items())
        return PeerLied(f"{what}. Not asked any more: {named}")

    def _drop(self, giver: _Giver, why: str) -> None:
        log.warning("peer %s %s; it is asked no more", short(giver.peer), why)
        self.liars[giver.peer] = why
        self.lost(giver.peer)

    def _hand_back(self, giver: _Giver) -> None:
        """Others are asked for what this one was asked for."""
        for number in giver.parts:
            if number in self._left:
                self._pending[number] = None
        giver.parts.clear()
        for other in tuple(self._givers.values()):
            if other is not giver:
                self._fill(other)
